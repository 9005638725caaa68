"""TokenAdapt's geometry: the recorded maps, one draw at two resolutions, the distribution of the draws."""

import pytest
import torch

from seit_ray.augment.crops import crop_resize
from seit_ray.augment.geometry import Geometry, apply_geometry, draw_geometry
from seit_ray.augment.random import StepRandom
from tests.augment.seit_aug import golden

CHAIN = ("angle", "translate_x", "translate_y", "shear_x", "shear_y")


def rng(rows, total=None, step=0):
    rows = rows if isinstance(rows, slice) else slice(0, rows)
    return StepRandom(6, step, rows, total or rows.stop)


def geometry(num=1, boxes=None, flip=False, **values):
    """A draw of equal values for all samples, and the whole map as crop."""
    parts = {name: torch.full((num,), float(values.get(name, 0.0))) for name in CHAIN}
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(num, -1) if boxes is None else boxes
    return Geometry(flip=torch.full((num,), flip), boxes=boxes, **parts)


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("rotate_p20", {"angle": 20}),
        ("rotate_m13", {"angle": -13}),
        ("translatex_p9", {"translate_x": 9 / 64}),
        ("translatey_m7", {"translate_y": -7 / 64}),
        ("shearx_11", {"shear_x": 11}),
        ("sheary_8", {"shear_y": 8}),
    ],
)
def test_given_parameters_give_the_recorded_maps(key, values):
    maps, expected = golden("in/affine/x64")[:1], golden(f"out/affine/{key}")
    out = apply_geometry(maps, geometry(**values), (64, 64), one_by_one=True)
    assert torch.allclose(out, expected, atol=5e-5)
    once = apply_geometry(maps, geometry(**values), (64, 64))
    covered = apply_geometry(torch.ones(1, 1, 64, 64), geometry(**values), (64, 64)) > 1 - 1e-4
    assert torch.allclose(once[covered], expected[covered], atol=5e-5)  # they differ at the border only
    assert covered.float().mean() > 0.7


@pytest.mark.parametrize(
    ("seed", "values", "boxes"),
    [
        (
            1234,
            {"flip": True, "angle": -8.001519203186035, "translate_x": -11 / 64, "shear_x": 8.445947647094727},
            [[0, 6, 63, 56], [0, 10, 59, 51]],
        ),
        (8, {}, [[14, 6, 48, 52], [6, 11, 58, 47]]),
    ],
)
def test_the_whole_recorded_chain(seed, values, boxes):
    # What torch's generator drew from these seeds, in the published order.
    drawn = geometry(2, torch.tensor(boxes) / 64, **values)
    out = apply_geometry(golden("in/affine/x64"), drawn, (56, 56), one_by_one=True)
    assert torch.allclose(out, golden(f"out/geo/tokenadapt_seed{seed}"), atol=5e-5)


def test_nothing_drawn_changes_nothing_and_a_flip_is_exact():
    maps = torch.randn(3, 2, 5, 8)
    assert torch.equal(apply_geometry(maps, geometry(3), (5, 8)), maps)
    assert torch.equal(apply_geometry(maps, geometry(3, flip=True), (5, 8)), maps.flip(-1))
    boxes = torch.tensor([[1 / 5, 2 / 8, 3 / 5, 5 / 8]]).expand(3, -1)
    cells = torch.tensor([[1, 2, 3, 5]]).expand(3, -1)
    assert torch.equal(apply_geometry(maps, geometry(3, boxes), (4, 4)), crop_resize(maps, cells, (4, 4)))


def smooth(size):
    """Waves in [0,1], much longer than a cell, [1,1,h,w]."""
    y, x = (((torch.arange(side) + 0.5) / side) * 6.0 for side in size)
    return (torch.sin(y)[:, None] * torch.cos(0.7 * x)[None] * 0.5 + 0.5)[None, None]


@pytest.mark.parametrize("sizes", [((64, 64), (256, 256)), ((40, 72), (120, 216))])
def test_one_draw_means_the_same_at_another_resolution(sizes):
    small, large = sizes
    drawn = draw_geometry(rng(64), small, affine_prob=1.0)
    moved = [
        apply_geometry(smooth(size).expand(64, -1, -1, -1), drawn, tuple(side // 4 for side in small)) for size in sizes
    ]
    # Where both are inside the map: the border of 0 is sharper at the higher resolution.
    inside = [
        apply_geometry(torch.ones(64, 1, *size), drawn, tuple(side // 4 for side in small)).sub(1).abs() < 1e-3
        for size in (small, large)
    ]
    both = inside[0] & inside[1]
    assert both.float().mean() > 0.5
    assert (moved[0] - moved[1])[both].abs().max() < 0.03


def test_one_product_is_the_chain_of_its_links():
    maps = smooth((48, 48))
    values = {"angle": 17, "translate_x": 0.1, "translate_y": -0.06, "shear_x": -9, "shear_y": 6, "flip": True}
    once, each = (apply_geometry(maps, geometry(**values), (48, 48), one_by_one=one) for one in (False, True))
    inner = (slice(None), slice(None), slice(14, 34), slice(14, 34))
    assert torch.allclose(once[inner], each[inner], atol=5e-3)
    assert not torch.allclose(once[inner], maps[inner], atol=5e-2)


def test_draws_are_per_sample_within_limits_and_as_often_as_asked():
    drawn = draw_geometry(rng(20_000), (64, 64), area=(0.2, 1.0))
    assert drawn.flip.float().mean().item() == pytest.approx(0.5, abs=0.015)
    for name, limit in zip(CHAIN, (30, 0.2, 0.2, 15, 15), strict=True):
        value = getattr(drawn, name)
        on = value != 0
        assert on.float().mean().item() == pytest.approx(0.25, abs=0.015), name
        assert value.abs().max().item() == pytest.approx(limit, rel=0.01), name
        assert abs(value[on].mean().item()) < 0.04 * limit, name
    both = (drawn.angle != 0) & (drawn.shear_y != 0)
    assert both.float().mean().item() == pytest.approx(0.125, abs=0.01)  # the chain is on for both, or for neither
    assert (drawn.boxes[:, 2] * drawn.boxes[:, 3]).min() > 0.18
    part = draw_geometry(rng(slice(30, 50), 20_000), (64, 64), area=(0.2, 1.0))
    for name in ("flip", "boxes", *CHAIN):
        assert torch.equal(getattr(part, name), getattr(drawn, name)[30:50]), name
        assert torch.equal(getattr(drawn.rows(torch.tensor([7, 3])), name), getattr(drawn, name)[[7, 3]]), name


def test_the_published_draw_is_one_for_the_batch_to_one_side_in_whole_cells():
    draws = [draw_geometry(rng(slice(4, 10), 16, step), (64, 40), reference=True) for step in range(300)]
    for drawn in draws:
        for name in ("flip", *CHAIN):
            assert len(getattr(drawn, name).unique()) == 1, name
        assert len(drawn.boxes.unique(dim=0)) > 1
    values = {name: torch.stack([getattr(drawn, name)[0] for drawn in draws]) for name in CHAIN}
    assert values["angle"].min() < -5
    for name in ("shear_x", "shear_y"):
        assert (values[name].min(), values[name].max() > 10) == (0, True)
    for name, side in (("translate_x", 40), ("translate_y", 64)):
        cells = values[name] * side
        assert torch.allclose(cells, cells.round(), atol=1e-4)
        assert (cells.min(), cells.max()) > (-0.2 * side - 0.5, 0.1 * side)


def test_wrong_input_is_refused():
    for numbers, message in (
        ({"flip_prob": 2.0}, r"flip_prob 2\.0; expected 0 to 1"),
        ({"max_shear": 90.0}, r"max_shear 90\.0; expected 0 or more, and a shear below 90"),
        ({"max_angle": -1.0}, r"max_angle -1\.0"),
        ({"area": (0.9, 0.1)}, r"crop area \(0\.9, 0\.1\)"),
    ):
        with pytest.raises(ValueError, match=message):
            draw_geometry(rng(2), (8, 8), **numbers)
    with pytest.raises(ValueError, match=r"maps torch\.int64; expected floats"):
        apply_geometry(torch.zeros(1, 1, 4, 4, dtype=torch.long), geometry(), (4, 4))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cells_stay_where_they_are_under_autocast_and_tf32(dtype, monkeypatch):
    """A ramp of coordinates: in half precision they would move by a good part of a cell."""
    places = torch.arange(64.0).expand(2, 1, 64, 64).to(dtype)
    drawn = geometry(2, angle=17.0, shear_x=9.0, translate_y=0.11)
    expected = apply_geometry(places.float(), drawn, (56, 56))
    seen, real = [], torch.matmul
    monkeypatch.setattr(torch, "matmul", lambda *a: (seen.append(torch.get_float32_matmul_precision()), real(*a))[1])
    torch.set_float32_matmul_precision("high")
    try:
        with torch.autocast("cpu", torch.bfloat16):
            found = apply_geometry(places, drawn, (56, 56))
    finally:
        torch.set_float32_matmul_precision("highest")
    assert set(seen) == {"highest"}  # nor in TF32
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)
