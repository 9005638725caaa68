"""Names of timm's models without an import of it."""

import pytest
from timm.models import _registry

from seit_ray.models.about_timm import check_timm_name, timm_names


def test_names_are_those_that_timm_registers():
    registered = {name for name, module in _registry._model_to_module.items() if not name.startswith(("seit_", "mtm_"))}
    assert timm_names() == registered


def test_a_name_may_have_the_tag_of_its_weights():
    check_timm_name("dtm.teacher", "vit_tiny_patch16_224.augreg_in21k")
    with pytest.raises(ValueError, match=r"dtm.teacher 'vit_tiny'; expected a model of timm; see timm.list_models"):
        check_timm_name("dtm.teacher", "vit_tiny")
