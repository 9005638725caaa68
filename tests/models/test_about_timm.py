"""Names of timm's models without an import of it."""

import pytest
from timm.models import _registry

from seit_ray.models.about_timm import check_timm_name, timm_names


def test_names_are_those_that_timm_registers():
    registered = {name for name, module in _registry._model_to_module.items() if not name.startswith(("seit_", "mtm_"))}
    assert set(timm_names()) == registered


def test_a_name_may_have_the_tag_of_its_weights():
    check_timm_name("dtm.teacher", "vit_tiny_patch16_224.augreg_in21k")
    with pytest.raises(ValueError, match=r"dtm.teacher 'vit_tiny'; expected a model of timm; see timm.list_models"):
        check_timm_name("dtm.teacher", "vit_tiny")
    with pytest.raises(
        ValueError, match=r"expected vit_tiny_patch16_224, or with a tag of augreg_in21k, augreg_in21k_ft"
    ):
        check_timm_name("dtm.teacher", "vit_tiny_patch16_224.openai")


def test_where_tags_are_written_out_all_are():
    """So that none is refused that timm has; those of some models are made by a function."""
    known = timm_names()
    for name, kinds in _registry._model_default_cfgs.items():
        tags = {tag for tag in kinds.cfgs if tag}
        assert tags <= known.get(name, set()) or not known.get(name)
        for tag in tags:
            check_timm_name("dtm.teacher", f"{name}.{tag}")
