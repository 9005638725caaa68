"""TokenAdapt: the recording of the published code, and other sizes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from seit_ray.models.tokenadapt import TokenAdapt
from seit_ray.models.weights import load_named, load_weights, save_weights

GOLDEN = Path(__file__).parents[1] / "golden" / "seitpp_tokenadapt.npz"
POSITIONS = ("conversion_function.1.de_pos_embedding", "reverse_transform.0.en_pos_embedding")
SMALL = {"num_codes": 11, "dim": 5, "width": 16, "num_heads": 2, "head_dim": 8, "mlp_width": 24}


def small(grid=(4, 6), out_grid=(3, 5), **more):
    """A seeded model of few numbers."""
    torch.manual_seed(0)
    return TokenAdapt(grid=grid, out_grid=out_grid, **{**SMALL, **more})


def noise(*shape, seed=0):
    """Seeded normal numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def record():
    arrays = np.load(GOLDEN)
    return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


@pytest.fixture
def recorded_model(record):
    model = TokenAdapt(grid=(32, 32), out_grid=(28, 28), num_codes=391, dim=32, width=48, num_heads=2, mlp_width=96)
    state = {key[3:]: value for key, value in record.items() if key.startswith("sd/")}
    buffers = dict(model.named_buffers())
    for name in POSITIONS:  # recorded in part: the tables themselves are compared below
        state[name] = buffers[name]
    load_named(model, state)
    return model.eval()


def test_positions_equal_the_recording(record, recorded_model):
    buffers = dict(recorded_model.named_buffers())
    assert set(buffers) == set(POSITIONS)
    for name in POSITIONS:
        torch.testing.assert_close(buffers[name][:, ::17], record[f"sd/{name}"], atol=1e-6, rtol=0)


def test_maps_logits_and_codes_equal_the_recording(record, recorded_model):
    maps = recorded_model.to_feature(record["in/emb"])
    assert maps.shape == (1, 32, 64, 64)
    torch.testing.assert_close(maps[:, ::8], record["out/map64"], atol=1e-5, rtol=0)
    cut = maps[:, :, 3:59, 5:61]
    logits = recorded_model.to_logits(cut)
    assert logits.shape == (1, 784, 391)
    torch.testing.assert_close(logits[:, ::17], record["out/code_logits"], atol=1e-5, rtol=0)
    codes = recorded_model.to_codes(cut)
    assert codes.dtype == torch.int64
    assert torch.equal(codes, record["out/codes"].long())


def test_the_default_sizes_are_the_published_ones():
    model = TokenAdapt(grid=(32, 32), out_grid=(28, 28), num_codes=391, dim=32)
    parts = (model.conversion_function, model.reverse_transform)
    # 2.23 and 2.28 million, the tables of positions among them
    assert [sum(p.numel() for p in part.state_dict().values()) for part in parts] == [2_229_152, 2_275_207]


@pytest.mark.parametrize(
    ("grid", "out_grid", "more"),
    [
        ((4, 6), (3, 5), {}),
        ((1, 1), (1, 1), {"num_codes": 2}),
        ((3, 3), (5, 4), {"depth": 2, "num_heads": 3}),
        ((2, 7), (2, 7), {"dim": 1, "num_heads": 1, "head_dim": 16}),
    ],
)
@pytest.mark.parametrize("rows", [1, 3])
def test_any_grid_and_size(grid, out_grid, more, rows):
    model = small(grid, out_grid, **more)
    maps = model.to_feature(noise(rows, model.dim, *grid))
    assert maps.shape == (rows, model.dim, 2 * grid[0], 2 * grid[1])
    assert model.map_size == (2 * out_grid[0], 2 * out_grid[1])
    logits = model.to_logits(noise(rows, model.dim, *model.map_size))
    assert logits.shape == (rows, out_grid[0] * out_grid[1], model.num_codes)


def test_rows_do_not_look_at_each_other():
    model, embedded = small(), noise(3, 5, 4, 6)
    alone = torch.cat([model.to_feature(row[None]) for row in embedded])
    torch.testing.assert_close(model.to_feature(embedded), alone)


def test_tokens_are_in_raster_order():
    """Without attention between tokens, what changes in one token changes its own 2x2 cells alone."""
    model, embedded = small(), noise(1, 5, 4, 6)
    with torch.no_grad():
        model.conversion_function[1].transformer.layers[0][0].fn.to_out.weight.zero_()
        model.reverse_transform[0].transformer.layers[0][0].fn.to_out.weight.zero_()
        changed = embedded.clone()
        changed[0, :, 2, 5] += 1
        difference = (model.to_feature(changed) - model.to_feature(embedded)).abs().sum((0, 1)) > 0
        assert difference.nonzero().tolist() == [[4, 10], [4, 11], [5, 10], [5, 11]]
        maps = noise(1, 5, 6, 10)
        changed = maps.clone()
        changed[0, :, 5, 2] += 1
        difference = (model.to_logits(changed) - model.to_logits(maps)).abs().sum((0, 2)) > 0
        assert difference.nonzero().tolist() == [[2 * 5 + 1]]


def test_codes_are_the_best_scores_and_carry_no_gradient():
    model, maps = small(), noise(2, 5, 6, 10).requires_grad_()
    codes = model.to_codes(maps)
    assert codes.shape == (2, 3, 5)
    assert not codes.requires_grad
    assert torch.equal(codes.flatten(1), model.to_logits(maps).argmax(2))


def test_weights_survive_safetensors():
    model, other = small(), small()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1)
    load_named(other, load_weights(save_weights(model)))
    assert torch.equal(other.to_feature(noise(1, 5, 4, 6)), model.to_feature(noise(1, 5, 4, 6)))


def test_weights_of_another_grid_are_refused_by_name():
    with pytest.raises(ValueError, match=r"en_pos_embedding \[1, 15, 16\] where the model has \[1, 24, 16\]"):
        load_named(small(out_grid=(4, 6)), small().state_dict())


def test_a_missing_entry_is_refused_by_name():
    state = small().state_dict()
    del state["reverse_transform.1.bias"]
    with pytest.raises(ValueError, match=r"missing reverse_transform.1.bias \[11\]"):
        load_named(small(), state)


@pytest.mark.parametrize("name", ["num_codes", "dim", "width", "depth", "num_heads", "head_dim", "mlp_width"])
def test_numbers_below_one_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} 0; expected 1 or more"):
        small(**{name: 0})


def test_wrong_grids_and_widths_are_refused():
    with pytest.raises(ValueError, match="grid 0; expected 1 or more"):
        small(grid=(0, 4))
    with pytest.raises(ValueError, match="multiple of 4"):
        small(width=18)


@pytest.mark.parametrize("shape", [(5, 6, 4), (4, 4, 6), (5, 4, 7)])
def test_maps_of_another_size_are_refused(shape):
    with pytest.raises(ValueError, match=r"expected \[B,5,4,6\]"):
        small().to_feature(noise(1, *shape))
    with pytest.raises(ValueError, match=r"expected \[B,5,6,10\]"):
        small().to_logits(noise(1, 5, 4, 6))
