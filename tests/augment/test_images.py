"""Augmentation of pixels: flips, crops and mixed samples."""

import pytest
import torch

from seit_ray.augment.images import ImageAugment
from seit_ray.augment.random import StepRandom
from seit_ray.augment.rows import partners

IMAGES = torch.randint(256, (6, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
LABELS = torch.arange(6)


def seen(step=0, **settings):
    """Augmented images of a step, and its random numbers."""
    rng = StepRandom(0, step, slice(0, 6), 6)
    return ImageAugment(**{"crop_area": None, "flip_prob": 0.0, **settings})(IMAGES, LABELS, rng), rng


def test_nothing_on_changes_nothing():
    found, _ = seen()
    assert torch.equal(found.inputs, IMAGES)
    assert found.inputs.dtype == torch.uint8
    assert torch.equal(found.labels, LABELS)
    assert found.partner_labels is None


def test_a_flip_turns_left_and_right():
    assert torch.equal(seen(flip_prob=1.0)[0].inputs, IMAGES.flip(-1))
    half = seen(flip_prob=0.5)[0].inputs
    same = [torch.equal(a, b) for a, b in zip(half, IMAGES, strict=True)]
    turned = [torch.equal(a, b.flip(-1)) for a, b in zip(half, IMAGES, strict=True)]
    assert [a != b for a, b in zip(same, turned, strict=True)] == [True] * 6


def test_a_crop_of_everything_is_the_image():
    found, _ = seen(crop_area=(1.0, 1.0))
    assert found.inputs.shape == IMAGES.shape
    assert not torch.equal(seen(crop_area=(0.2, 0.5))[0].inputs, IMAGES)


@pytest.mark.parametrize("mode", ["batch", "pair"])
def test_cutmix_takes_a_box_of_the_partner(mode):
    found, rng = seen(step=1, cutmix_alpha=1.0, mix_mode=mode)
    partner = partners(rng.rows)
    own, other = found.inputs == IMAGES, found.inputs == IMAGES[partner]
    assert (own | other).all()
    assert torch.equal(found.partner_labels, LABELS[partner])
    kept = (own & ~other).any(1).float().mean((1, 2))
    assert torch.all(kept <= found.weight + 0.05)
    assert 0 < float(found.weight.min()) < 1


def test_mixup_is_a_weighted_mean():
    found, rng = seen(mixup_alpha=1.0)
    weight = found.weight.view(-1, 1, 1, 1)
    expected = weight * IMAGES.float() + (1 - weight) * IMAGES[partners(rng.rows)].float()
    assert (found.inputs.float() - expected).abs().max() <= 0.51


def test_wrong_shares_are_refused():
    with pytest.raises(ValueError, match="flip_prob"):
        ImageAugment(flip_prob=2.0)
