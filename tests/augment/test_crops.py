"""Crops: the recorded numbers, torch's own interpolation, the boxes' distribution."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from seit_ray.augment.crops import center_crop, crop_at, crop_codes, crop_resize, random_boxes
from seit_ray.augment.random import StepRandom
from seit_ray.tokenizers.codebook import embed_codes
from tests.augment.seit_aug import golden


def rng(rows, step=0, total=None):
    return StepRandom(5, step, slice(0, rows), total or rows)


def interpolated(maps, boxes, size):
    """Sample by sample, with torch's interpolation."""
    crops = [x[None, :, t : t + h, left : left + w] for x, (t, left, h, w) in zip(maps, boxes.tolist(), strict=True)]
    return torch.cat([F.interpolate(c, size=size, mode="bicubic", align_corners=False) for c in crops])


@pytest.mark.parametrize(("source", "target"), [(32, 28), (64, 56)])
def test_crops_are_the_recorded_ones(source, target):
    out = crop_resize(golden(f"in/rrc/x{source}"), golden(f"in/rrc/boxes_ijhw_{source}"), (target, target))
    # Values reach 5, and positions are float32 in both.
    assert torch.allclose(out, golden(f"out/rrc/to{target}"), atol=2e-5)


def test_cropping_codes_is_cropping_one_hot_maps():
    tokens, codebook, box = golden("in/rrc/tokens"), golden("in/rrc/codebook"), golden("in/rrc/boxes_ijhw_32")[3:4]
    expected = golden("out/rrc/onehot_then_codebook_box3")
    assert torch.allclose(crop_codes(tokens[None], codebook, box, (28, 28))[0], expected, atol=1e-5)
    assert torch.allclose(crop_resize(embed_codes(tokens[None], codebook), box, (28, 28))[0], expected, atol=1e-5)


@settings(max_examples=40)
@given(st.data())
def test_any_boxes_sizes_and_grids_agree_with_torch(data):
    side = st.integers(1, 12)
    num, dim, h, w = (data.draw(s) for s in (st.integers(1, 4), st.integers(1, 3), side, side))
    size, step = (data.draw(side), data.draw(side)), data.draw(st.integers(0, 10**6))
    generator = torch.Generator().manual_seed(step)
    tokens = torch.randint(7, (num, h, w), generator=generator)
    codebook = torch.randn(7, dim, generator=generator)
    boxes = random_boxes(rng(num, step), (h, w), area=(0.01, 1.0), aspect=(0.3, 3.0))
    maps = embed_codes(tokens, codebook)
    expected = interpolated(maps, boxes, size)
    for layout in (maps, maps.contiguous()):
        assert torch.allclose(crop_resize(layout, boxes, size), expected, atol=2e-5)
    assert torch.allclose(crop_codes(tokens, codebook, boxes, size), expected, atol=2e-5)


def test_the_whole_map_in_its_own_size_stays_and_doubles_keep_their_precision():
    maps = torch.randn(3, 2, 5, 7)
    whole = torch.tensor([[0, 0, 5, 7]]).expand(3, -1)
    assert torch.equal(crop_resize(maps, whole, (5, 7)), maps)
    assert crop_resize(maps.double(), whole, (4, 4)).dtype == torch.float64
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(crop_resize(maps, whole, (5, 7)), maps)


def test_fractional_boxes_move_the_crop():
    ramp = torch.arange(20.0).expand(1, 1, 20, 20)
    out = crop_resize(ramp, torch.tensor([[2.0, 4.5, 10.0, 10.0]]), (10, 10))
    assert torch.allclose(out[0, 0, 5, 2:8], 4.5 + torch.arange(2.0, 8.0), atol=1e-4)


def test_boxes_have_the_recorded_distribution():
    for key, side, low in (("params_torchseed99_200", 32, 0.08), ("params64_scale02_torchseed99_200", 64, 0.2)):
        recorded = golden(f"out/rrc/{key}").double()
        boxes = random_boxes(rng(20_000), (side, side), area=(low, 1.0)).double()
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, :2] + boxes[:, 2:] <= side).all()
        area, ratio = boxes[:, 2] * boxes[:, 3] / side**2, boxes[:, 3] / boxes[:, 2]
        assert area.min() > low - 0.04
        assert (ratio.log().mean() / 0.01).abs() < 1.0
        # 200 recorded boxes: 4 standard errors
        for ours, theirs in zip(boxes.unbind(1), recorded.unbind(1), strict=True):
            assert abs(ours.mean() - theirs.mean()) < 4 * theirs.std() / 200**0.5
            assert ours.std().item() == pytest.approx(theirs.std().item(), rel=0.2)


def test_boxes_fall_back_to_the_whole_grid_and_reach_all_corners():
    impossible = random_boxes(rng(50), (4, 40), area=(1.0, 1.0), aspect=(0.9, 1.1))
    assert impossible.unique(dim=0).tolist() == [[0, 0, 4, 40]]
    boxes = random_boxes(rng(3000), (6, 9), area=(0.1, 0.4))
    assert (boxes[:, 0] + boxes[:, 2]).max() == 6
    assert (boxes[:, 1] + boxes[:, 3]).max() == 9
    assert boxes[:, :2].min() == 0
    assert torch.equal(random_boxes(StepRandom(5, 0, slice(7, 20), 3000), (6, 9), area=(0.1, 0.4)), boxes[7:20])


def test_crops_at_the_centre_and_at_corners_cut_tokens_and_maps_alike():
    assert torch.equal(center_crop(golden("in/rrc/x32")[:, :1], (28, 28)), golden("in/rrc/x32")[:, :1, 2:30, 2:30])
    corners = torch.tensor([[2, 0], [1, 0], [2, 3], [3, 4]])  # what the recorded seed drew
    assert torch.equal(crop_at(golden("in/rrc/x32")[:, :1], corners, (28, 28)), golden("out/rc/to28_torchseed5"))
    tokens = torch.arange(4 * 30).view(4, 5, 6)
    cut = crop_at(tokens, corners.clamp(max=2), (3, 4))
    assert torch.equal(crop_at(tokens[:, None].float(), corners.clamp(max=2), (3, 4))[:, 0].long(), cut)
    expected = [t[top : top + 3, left : left + 4] for t, (top, left) in zip(tokens, corners.clamp(max=2), strict=True)]
    assert torch.equal(cut, torch.stack(expected))
    assert torch.equal(crop_at(tokens, torch.zeros(4, 2, dtype=torch.int64), (5, 6)), tokens)


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match=r"maps torch.int64 \[2, 4, 4\]; expected floats"):
        crop_resize(torch.zeros(2, 4, 4, dtype=torch.long), torch.zeros(2, 4), (2, 2))
    with pytest.raises(ValueError, match=r"boxes \[3, 4\]; expected \[2,4\]"):
        crop_resize(torch.zeros(2, 1, 4, 4), torch.zeros(3, 4), (2, 2))
    with pytest.raises(ValueError, match="crop to 5x4 of a grid of 4x4"):
        center_crop(torch.zeros(4, 4), (5, 4))
    with pytest.raises(ValueError, match="crop to 0x4 of a grid of 4x4"):
        crop_at(torch.zeros(1, 4, 4), torch.zeros(1, 2, dtype=torch.int64), (0, 4))
    wrong = ({"area": (0.0, 1.0)}, {"area": (0.5, 0.4)}, {"area": (0.5, 1.2)}, {"aspect": (2, 1)}, {"tries": 0})
    for numbers in wrong:
        with pytest.raises(ValueError, match="put the bounds in order"):
            random_boxes(rng(1), (4, 4), **numbers)
