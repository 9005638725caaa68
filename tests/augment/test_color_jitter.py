"""Colour jitter: torchvision's three operations, with a draw a row."""

from itertools import permutations

import pytest
import torch
from torchvision.transforms.v2 import functional as tv

from seit_ray.augment.chain import Augmented
from seit_ray.augment.color_jitter import ColorJitter, jitter
from seit_ray.augment.random import StepRandom

IMAGES = torch.randint(256, (6, 3, 8, 10), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def keep(images, labels, rng):
    return Augmented(images, labels)


def rng(rows=slice(0, 6), step=0):
    return StepRandom(0, step, rows, 6)


@pytest.mark.parametrize(
    "factors", [(1.0, 1.0, 1.0), (0.6, 1.0, 1.0), (1.0, 1.4, 1.0), (1.0, 1.0, 0.0), (1.3, 0.7, 1.2)]
)
def test_it_is_what_torchvision_does_in_this_order(factors):
    found = jitter(IMAGES.float(), torch.tensor([factors]).expand(6, -1)) / 255
    brightness, contrast, saturation = factors
    expected = IMAGES.float() / 255
    for operation, factor in (
        (tv.adjust_brightness, brightness),
        (tv.adjust_contrast, contrast),
        (tv.adjust_saturation, saturation),
    ):
        expected = operation(expected, factor)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)  # its weights of red, green and blue are rounded


def test_each_row_has_an_order_of_its_own():
    operations, factors = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation), (1.3, 0.6, 1.4)
    orders = list(permutations(range(3)))
    found = jitter(IMAGES.float(), torch.tensor([factors]).expand(6, -1), torch.tensor(orders)) / 255
    for row, order in enumerate(orders):
        expected = IMAGES[row].float() / 255
        for number in order:
            expected = operations[number](expected, factors[number])
        torch.testing.assert_close(found[row], expected, atol=2e-3, rtol=0)


def test_orders_are_drawn_alike_and_by_row():
    orders, same = [], IMAGES[:1].expand(6, -1, -1, -1)
    augment = ColorJitter(0.4, keep)
    for step in range(400):
        orders += rng(step=step).uniform("order of colour jitter", 3).argsort(1).tolist()
    counts = [orders.count(list(order)) for order in permutations(range(3))]
    assert sum(counts) == 2400
    assert min(counts) > 320  # of 400 each
    factors = 1 + 0.4 * (2 * rng().uniform("colour jitter", 3) - 1)
    fixed = jitter(same.float(), factors).round().to(torch.uint8)
    assert not torch.equal(augment(same, None, rng()).inputs, fixed)


def test_every_row_has_a_draw_of_its_own_on_any_rank():
    whole = ColorJitter(0.4, keep)(IMAGES, None, rng())
    assert whole.inputs.dtype == torch.uint8
    assert not torch.equal(whole.inputs, IMAGES)
    same = ColorJitter(0.4, keep)(IMAGES[:1].expand(6, -1, -1, -1), None, rng()).inputs
    assert len({tuple(image.flatten().tolist()) for image in same}) == 6
    part = ColorJitter(0.4, keep)(IMAGES[2:5], None, rng(slice(2, 5)))
    assert torch.equal(part.inputs, whole.inputs[2:5])
    assert torch.equal(ColorJitter(0.0, keep)(IMAGES, None, rng()).inputs, IMAGES)


def test_what_comes_then_sees_the_result():
    found = ColorJitter(0.4, lambda images, labels, rng: Augmented(images.flip(3), labels))(IMAGES, None, rng())
    assert torch.equal(found.inputs.flip(3), ColorJitter(0.4, keep)(IMAGES, None, rng()).inputs)


def test_a_strength_above_one_is_an_error():
    with pytest.raises(ValueError, match=r"color_jitter 1.5; expected 0 to 1"):
        ColorJitter(1.5, keep)
