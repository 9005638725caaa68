"""Images and label maps move together: crops, flips, scales and turns, each row alike however the batch is split."""

import numpy as np
import pytest
import torch

from seit_ray.augment.chain import Augment
from seit_ray.augment.geometry import Geometry, apply_geometry, draw_geometry, warp_labels
from seit_ray.augment.label_maps import (
    ImageMapAugment,
    TokenMapAugment,
    choose_boxes,
    corner_boxes,
    largest_shares,
    scaled_boxes,
)
from seit_ray.augment.lookup import PixelAdapter
from seit_ray.augment.random import StepRandom
from seit_ray.images.label_maps import VOID
from seit_ray.models.tokenadapt import TokenAdapt

GRID, PATCH, K = (6, 6), 2, 4
# code k is a flat patch whose red tells k: what a map says can be read from the tokens
CODES = (torch.arange(K) / 4 + 0.1).view(K, 1, 1).expand(K, 3, PATCH**2).reshape(K, -1).clone()


def rng(rows=slice(0, 8), step=0):
    return StepRandom(0, step, rows, 8)


def pairs(num=8, seed=0):
    """Tokens [N,36], and maps [N,12,12] of the class that each token is."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, K, (num, 36), generator=generator)
    maps = tokens.view(num, 6, 6).repeat_interleave(PATCH, 1).repeat_interleave(PATCH, 2).to(torch.uint8)
    return tokens, maps


def augment(out_grid=(4, 4), *, adapt=False, max_share=1.0, **settings):
    adapter = PixelAdapter(CODES, grid=GRID, out_grid=out_grid) if adapt else None
    chain = Augment(CODES, token_adapt=adapter, grid=GRID, out_grid=out_grid, output="codes", metric="l2", **settings)
    return TokenMapAugment(chain, num_classes=K, max_share=max_share)


def agree(seen, out_grid=(4, 4)):
    """Share of tokens whose pixels have its class in the map; void counts for every class."""
    tokens = seen.inputs.view(-1, *out_grid).repeat_interleave(PATCH, 1).repeat_interleave(PATCH, 2)
    counted = seen.labels != VOID
    return ((tokens == seen.labels) & counted).sum().item() / counted.sum().item()


def test_plain_rows_are_crops_of_whole_tokens_at_their_own_places():
    seen = augment()(*pairs(), rng())
    assert (seen.inputs.shape, seen.labels.shape, seen.labels.dtype) == ((8, 16), (8, 8, 8), torch.uint8)
    assert agree(seen) == 1
    corners = corner_boxes(rng(), GRID, (4, 4), 1)[:, 0, :2]
    assert len({tuple(corner) for corner in corners.tolist()}) > 2
    whole = augment(GRID)(*pairs(), rng())
    assert torch.equal(whole.inputs, pairs()[0])
    assert torch.equal(whole.labels, pairs()[1])


def test_flips_through_pixels_move_tokens_and_maps_alike():
    seen = augment(GRID, adapt=True, adapt_share=1.0, affine_prob=0.0, flip_prob=1.0)(*pairs(), rng())
    tokens, maps = pairs()
    assert torch.equal(seen.labels, maps.flip(2))
    assert torch.equal(seen.inputs.view(8, 6, 6), tokens.view(8, 6, 6).flip(2))


def test_scales_through_pixels_keep_most_tokens_on_their_class():
    smooth = torch.from_numpy(np.tile(np.repeat([0, 3], 18), (8, 1)))  # two halves: a crop has one edge alone
    maps = smooth.view(8, 6, 6).repeat_interleave(PATCH, 1).repeat_interleave(PATCH, 2).to(torch.uint8)
    settings = {"adapt": True, "adapt_share": 1.0, "random_crop": True, "crop_area": (0.2, 0.6)}
    seen = augment(GRID, affine_prob=0.0, **settings)(smooth, maps, rng())
    assert agree(seen, GRID) > 0.85  # but for tokens on the edge
    turned = augment(GRID, affine_prob=1.0, max_angle=20.0, **settings)(smooth, maps, rng())
    assert (turned.labels == VOID).any()  # what has come from outside
    inside = turned.labels != VOID
    assert {*turned.labels[inside].tolist()} == {0, 3}


@pytest.mark.parametrize("settings", [{}, {"adapt": True, "adapt_share": 0.5}, {"noise_prob": 1.0, "noise_std": 0.01}])
def test_a_row_is_the_same_however_the_batch_is_split(settings):
    chain = augment(**settings, random_crop="adapt" in settings, color_before_crop=True, max_share=0.5)
    tokens, maps = pairs()
    whole = chain(tokens, maps, rng())
    parts = [chain(tokens[rows], maps[rows], rng(rows)) for rows in (slice(0, 2), slice(2, 8))]
    assert torch.equal(torch.cat([part.inputs for part in parts]), whole.inputs)
    assert torch.equal(torch.cat([part.labels for part in parts]), whole.labels)


def test_labels_go_where_the_picture_goes():
    """A picture of flat squares warped as pixels, and its labels, agree but at the edges of squares."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.randint(0, 3, (16, 4, 4), generator=generator).repeat_interleave(16, 1).repeat_interleave(16, 2)
    draws = StepRandom(0, 0, slice(0, 16), 16)
    geometry = draw_geometry(draws, (64, 64), area=(0.3, 1.0), affine_prob=0.7)
    picture = apply_geometry((labels[:, None] + 1.0), geometry, (48, 48))[:, 0]
    found = warp_labels(labels, geometry, (48, 48), outside=-1)
    near = (picture - found - 1).abs() < 0.25
    assert near.float().mean() > 0.9
    assert (found == -1).any()


def test_an_empty_geometry_changes_nothing_and_a_flip_is_a_flip():
    labels = torch.arange(24).view(1, 4, 6)
    zero, box = torch.zeros(1), torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    for flip in (False, True):
        geometry = Geometry(torch.tensor([flip]), zero, zero, zero, zero, zero, box)
        assert torch.equal(warp_labels(labels, geometry, (4, 6), -1), labels.flip(2) if flip else labels)
    half = Geometry(torch.tensor([False]), zero, zero, zero, zero, zero, torch.tensor([[0.5, 0.0, 0.5, 0.5]]))
    assert torch.equal(warp_labels(labels, half, (2, 3), -1), labels[:, 2:, :3])
    shifted = Geometry(torch.tensor([False]), zero, zero + 1 / 6, zero, zero, zero, box)
    assert torch.equal(warp_labels(labels, shifted, (4, 6), -1)[:, :, 1:], labels[:, :, :-1])


def test_crops_of_nearly_one_class_are_drawn_again():
    maps = torch.zeros(2, 12, 12, dtype=torch.uint8)
    maps[0, 6:] = 1  # below: another class
    maps[1, :, 3:] = VOID
    boxes = torch.tensor([[[0.0, 0.0, 0.5, 1.0], [0.25, 0.0, 0.5, 1.0], [0.5, 0.0, 0.5, 1.0]]]).expand(2, 3, 4)
    shares = largest_shares(maps, boxes, 3)
    assert shares[0].tolist() == pytest.approx([1.0, 0.5, 1.0])
    assert shares[1].tolist() == pytest.approx([1.0, 1.0, 1.0])  # void counts for nothing
    chosen = choose_boxes(maps, boxes, 3, 0.75)
    assert chosen[0].tolist() == [0.25, 0.0, 0.5, 1.0]
    assert chosen[1].tolist() == [0.0, 0.0, 0.5, 1.0]  # none fits: the least of them, the first
    assert torch.equal(choose_boxes(maps, boxes, 3, 1.0), boxes[:, 0])


def test_boxes_of_a_flipped_picture_are_looked_at_where_they_come_from():
    maps = torch.zeros(1, 8, 8, dtype=torch.uint8)
    maps[0, :4, :4] = 1
    boxes = torch.tensor([[[0.0, 0.0, 1.0, 0.5], [0.0, 0.5, 1.0, 0.5]]])
    assert choose_boxes(maps, boxes, 2, 0.75, torch.tensor([False]))[0, 1] == 0.0
    assert choose_boxes(maps, boxes, 2, 0.75, torch.tensor([True]))[0, 1] == 0.5


def test_tries_are_other_draws_and_the_first_is_the_usual_one():
    boxes = scaled_boxes(rng(), (32, 32), area=(0.2, 0.8), aspect=(0.75, 4 / 3), tries=3)
    assert boxes.shape == (8, 3, 4)
    assert not torch.equal(boxes[:, 0], boxes[:, 1])
    alone = scaled_boxes(rng(slice(2, 4)), (32, 32), area=(0.2, 0.8), aspect=(0.75, 4 / 3), tries=3)
    assert torch.equal(alone, boxes[2:4])
    assert (boxes[..., 0] + boxes[..., 2] <= 1 + 1e-6).all()


def test_pixels_are_cropped_and_flipped_with_their_maps():
    generator = torch.Generator().manual_seed(0)
    maps = torch.randint(0, 3, (8, 4, 4), generator=generator, dtype=torch.uint8)
    maps = maps.repeat_interleave(8, 1).repeat_interleave(8, 2)
    images = (maps * 80)[:, None].expand(8, 3, 32, 32).contiguous()
    seen = ImageMapAugment(num_classes=3, crop_area=(0.3, 0.9), flip_prob=0.5)(images, maps, rng())
    assert (seen.inputs.dtype, seen.inputs.shape, seen.labels.shape) == (torch.uint8, (8, 3, 32, 32), (8, 32, 32))
    near = (seen.inputs[:, 0].float() - 80.0 * seen.labels).abs() < 20
    assert near.float().mean() > 0.8
    same = ImageMapAugment(num_classes=3, crop_area=None, flip_prob=0.0)(images, maps, rng())
    assert torch.equal(same.inputs, images)
    assert torch.equal(same.labels, maps)


def test_tokenadapt_carries_tokens_while_maps_move_with_its_features():
    torch.manual_seed(0)
    sizes = {"width": 8, "num_heads": 2, "head_dim": 4, "mlp_width": 8}
    adapter = TokenAdapt(grid=GRID, out_grid=(4, 4), num_codes=K, dim=CODES.shape[1], **sizes).requires_grad_(False)
    settings = {"adapt_share": 1.0, "random_crop": True, "affine_prob": 0.0, "flip_prob": 0.5}
    chain = Augment(CODES, token_adapt=adapter, grid=GRID, out_grid=(4, 4), output="codes", metric="l2", **settings)
    tokens, maps = pairs()
    seen = TokenMapAugment(chain, num_classes=K, max_share=1.0)(tokens, maps, rng())
    assert (seen.inputs.shape, seen.labels.shape) == ((8, 16), (8, 8, 8))
    assert not (seen.labels == VOID).any()  # boxes lie within the picture
    boxes = scaled_boxes(rng(), (12, 12), area=(0.08, 1.0), aspect=(0.75, 4 / 3))[:, 0]
    zero = torch.zeros(8)
    flip = chain.settings.draw_geometry(rng(), (12, 12)).flip
    moved = warp_labels(maps, Geometry(flip, zero, zero, zero, zero, zero, boxes), (8, 8), VOID)
    assert torch.equal(seen.labels, moved)


@pytest.mark.parametrize("settings", [{"swap_prob": 0.5}, {"cutmix_alpha": 1.0}, {"mixup_alpha": 0.8}])
def test_what_puts_a_pixel_elsewhere_without_its_class_is_refused(settings):
    with pytest.raises(ValueError, match="mixes samples or exchanges squares with label maps"):
        augment(**settings)


def test_maps_that_the_grid_does_not_tile_are_refused():
    tokens, maps = pairs()
    with pytest.raises(ValueError, match=r"label maps \[8, 11, 11\] of a grid of 6x6"):
        augment()(tokens, maps[:, :11, :11], rng())
