"""Names, groups and strengths of the corruptions."""

import pytest

from seit_ray.evaluation.corruptions.corrupt import CORRUPTIONS
from seit_ray.evaluation.corruptions.strengths import (
    EXTRA,
    IMAGENET_C,
    NAMES,
    STRENGTHS,
    check_severities,
    corruption_names,
    strength_of,
    strengths_for,
)


def test_fifteen_and_four_with_five_strengths_each():
    assert (len(IMAGENET_C), len(EXTRA), len(set(NAMES))) == (15, 4, 19)
    assert set(CORRUPTIONS) == set(NAMES)
    for table in STRENGTHS.values():
        assert set(table) == set(NAMES)
        assert {len(found) for found in table.values()} == {5}


def test_some_published_strengths():
    assert strength_of("gaussian_noise", 5, "imagenet_c", 224) == 0.38
    assert strength_of("jpeg_compression", 1, "imagenet_c", 224) == 25
    assert strength_of("glass_blur", 3, "imagenet_c", 224) == (1, 2, 3)
    assert strength_of("contrast", 4, "cifar10_c", 32) == 0.3
    assert strength_of("elastic_transform", 2, "cifar10_c", 32) == (1.6, 6.4, 0.07 * 32)
    assert strength_of("elastic_transform", 1, "imagenet_c", 64)[0] == 488


def test_names_and_groups():
    assert corruption_names(["imagenet_c"]) == list(IMAGENET_C)
    assert corruption_names(["imagenet_c", "imagenet_c_extra", "fog"]) == list(NAMES)
    assert corruption_names(["fog", "gaussian_noise", "fog"]) == ["gaussian_noise", "fog"]
    assert corruption_names(["digital"]) == ["contrast", "elastic_transform", "pixelate", "jpeg_compression"]
    assert corruption_names([]) == []
    with pytest.raises(ValueError, match=r"corruption 'rain'; expected some of imagenet_c, .*fog"):
        corruption_names(["fog", "rain"])


def test_severities():
    assert check_severities([5, 1, 1]) == [1, 5]
    for wrong, words in (([0], "severity 0"), ([1, 6], "severity 6"), ([], "severity none")):
        with pytest.raises(ValueError, match=f"{words}; expected some of 1, 2, 3, 4, 5"):
            check_severities(wrong)


def test_small_images_get_the_strengths_of_small_images():
    assert [strengths_for(side) for side in (28, 32, 64, 224)] == ["cifar10_c", "cifar10_c", "imagenet_c", "imagenet_c"]
    assert strengths_for(32, "imagenet_c") == "imagenet_c"
