"""Groups of keys that verbs share, and what takes them."""

import inspect

import pytest

from seit_ray.config import Storage
from seit_ray.config.augment import Augment
from seit_ray.config.keys import section_of
from seit_ray.config.methods import PretrainPixels
from seit_ray.config.training import Pixels
from seit_ray.storage import Folder
from seit_ray.storage.contract import Access
from seit_ray.verbs.command.arguments import VERBS


def test_every_key_of_storage_is_an_argument_of_folders_and_the_other_way_round():
    arguments = inspect.signature(Folder).parameters
    wanted = {name: each.default for name, each in arguments.items() if name != "uri"}
    assert Storage().options() == wanted
    assert set(wanted) == set(Access.__annotations__)


def test_the_keys_travel_with_a_folder():
    options = Storage(account="me", requester_pays=True, connections=3, private_addresses=True).options()
    folder = Folder("s3://b/k", **options).join("x").at("az://c/k")
    assert folder._options == options


@pytest.mark.parametrize("connections", [0, -1, 5000])
def test_connections_have_bounds(connections):
    with pytest.raises(ValueError, match="connections"):
        Storage(connections=connections)


@pytest.mark.parametrize("verb", VERBS)
def test_one_key_of_a_section_leaves_the_defaults_of_the_others_as_they_are_told(verb):
    def check(section):
        for name, info in section.model_fields.items():
            inner = section_of(info.annotation)
            if inner is not None:
                assert info.get_default(call_default_factory=True) == inner(), f"{section.__name__}.{name}"
                check(inner)

    check(VERBS[verb])


@pytest.mark.parametrize("bounds", [(0.9, 0.1), (0.0, 1.0), (0.5, 1.5)])
@pytest.mark.parametrize("section", [Augment, Pixels, PretrainPixels])
def test_shares_of_a_crop_rise_from_more_than_nothing_to_all(section, bounds):
    assert section(crop_area=(0.5, 0.5)).crop_area == (0.5, 0.5)
    with pytest.raises(ValueError, match="crop_area"):
        section(crop_area=bounds)


def test_the_shape_of_a_crop_rises():
    with pytest.raises(ValueError, match="the smaller bound first"):
        Augment(crop_aspect=(2.0, 1.0))
