"""Nearest codes and embedded codes, against the recordings of SeiT's own code."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from seit_ray.tokenizers.codebook import embed_codes, nearest_in_codebook, quantize_maps

GOLDEN = Path(__file__).parents[1] / "golden" / "seit_codebook.npz"


@pytest.fixture(scope="module")
def record():
    arrays = np.load(GOLDEN)
    return {
        key: torch.from_numpy(arrays[key].astype("int64" if "codes" in key else arrays[key].dtype)) for key in arrays
    }


def random_vectors(num, width, seed=0):
    return torch.randn(num, width, generator=torch.Generator().manual_seed(seed))


def test_codes_of_maps_equal_the_recording(record):
    assert torch.equal(quantize_maps(record["in/z"], record["sd/weight"]), record["out/codes"])
    found = nearest_in_codebook(record["in/z_hwc"], record["sd/weight"])
    assert torch.equal(found, record["out/codes_from_z_hwc"])
    assert torch.equal(embed_codes(found, record["sd/weight"]), record["out/tokens_from_z_hwc"])


def test_embedded_codes_equal_the_recording(record):
    assert torch.equal(embed_codes(record["in/idx"], record["sd/weight"]), record["out/emb_onehot"])


def test_parallel_rows_give_the_lowest_code_as_recorded(record):
    codebook = record["sd/weight"].clone()
    codebook[200] = 3 * codebook[7]
    assert (
        nearest_in_codebook(codebook[[7, 200]], codebook).tolist() == record["out/codes_dup_7_200"].tolist() == [7, 7]
    )


@pytest.mark.parametrize("width", [4, 32, 300])
def test_parallel_rows_never_give_the_higher_code(width):
    generator = torch.Generator().manual_seed(width)
    codebook = random_vectors(200, width, seed=width)
    codebook[100:] = codebook[:100] * (0.1 + 5 * torch.rand(100, 1, generator=generator))
    vectors = torch.cat([codebook, codebook + 0.1 * random_vectors(200, width, seed=1)])
    assert nearest_in_codebook(vectors, codebook).max() < 100


@pytest.mark.parametrize(("num_codes", "width"), [(1, 3), (2, 1), (7, 5), (391, 32), (3000, 8)])
def test_every_row_is_its_own_nearest_whatever_its_length(num_codes, width):
    codebook = random_vectors(num_codes, width) if width > 1 else torch.tensor([[-2.0], [0.5]])
    lengths = torch.linspace(1e-3, 1e3, num_codes)[:, None]
    own = torch.arange(num_codes)
    assert torch.equal(nearest_in_codebook(codebook * lengths, codebook), own)
    assert torch.equal(nearest_in_codebook(codebook, codebook * lengths.flip(0)), own)
    assert torch.equal(nearest_in_codebook(codebook, codebook, "l2"), own)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_nearest_is_the_nearest_in_float64(metric):
    vectors, codebook = random_vectors(500, 12), random_vectors(40, 12, seed=1) * 2
    x, c = vectors.double(), codebook.double()
    if metric == "cosine":
        x, c = F.normalize(x, dim=1), F.normalize(c, dim=1)
    assert torch.equal(nearest_in_codebook(vectors, codebook, metric), torch.cdist(x, c).argmin(1))


def test_metrics_differ_where_lengths_do():
    codebook = torch.tensor([[10.0, 0.0], [0.6, 0.8]])
    vector = torch.tensor([[1.0, 0.2]])
    assert nearest_in_codebook(vector, codebook, "cosine").item() == 0
    assert nearest_in_codebook(vector, codebook, "l2").item() == 1


def test_half_precision_around_it_changes_nothing(record):
    with torch.autocast("cpu", torch.bfloat16):
        found = quantize_maps(record["in/z"], record["sd/weight"])
    assert torch.equal(found, record["out/codes"])


def test_no_vectors_and_a_zero_vector():
    codebook = random_vectors(5, 4)
    assert nearest_in_codebook(torch.empty(0, 3, 4), codebook).shape == (0, 3)
    assert nearest_in_codebook(torch.zeros(1, 4), codebook).item() == 0


def test_other_metrics_and_widths_are_errors():
    with pytest.raises(ValueError, match="metric 'dot'; expected one of cosine, l2"):
        nearest_in_codebook(random_vectors(2, 4), random_vectors(5, 4), "dot")
    with pytest.raises(ValueError, match="vectors of width 3 for a codebook of width 4"):
        nearest_in_codebook(random_vectors(2, 3), random_vectors(5, 4))
