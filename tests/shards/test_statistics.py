"""Entropy, usage and histograms of codes."""

import numpy as np
import pytest

from seit_ray.shards.statistics import code_histogram, code_usage, entropy_bits


@pytest.mark.parametrize(
    ("histogram", "bits"),
    [([], 0.0), ([0, 0], 0.0), ([7], 0.0), ([5, 5], 1.0), ([1] * 256, 8.0), ([2, 1, 1, 0], 1.5)],
)
def test_entropy(histogram, bits):
    assert entropy_bits(histogram) == pytest.approx(bits)
    assert entropy_bits(np.array(histogram, np.int64) * 1_000_000_000) == pytest.approx(bits)


@pytest.mark.parametrize(("histogram", "share"), [([0, 0], 0.0), ([3, 0, 1, 0], 0.5), ([1], 1.0)])
def test_usage(histogram, share):
    assert code_usage(histogram) == share


def test_histogram_counts_every_token():
    tokens = np.array([[0, 3, 3], [3, 1, 0]], np.uint16)
    assert code_histogram(tokens, 6).tolist() == [2, 1, 0, 3, 0, 0]
    assert code_histogram(tokens[:0], 2).tolist() == [0, 0]


def test_histogram_of_the_largest_codebook():
    counts = code_histogram(np.array([[65535, 0]], np.uint16), 65536)
    assert (len(counts), counts[65535], counts[0], counts.sum()) == (65536, 1, 1, 2)


def test_a_token_beyond_the_codebook_is_an_error():
    with pytest.raises(ValueError, match="token 9; expected below 9"):
        code_histogram(np.array([[1, 9]], np.uint16), 9)
