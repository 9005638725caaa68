"""Counts of pixels against a plain loop, figures of them, windows, and any number of ranks."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from seit_ray.evaluation.pairs import PairBatch, TokenPairs
from seit_ray.evaluation.segmentation import (
    SegmentCounts,
    WindowedSegmenter,
    figures_of,
    labels_at,
    metrics_of,
    segment_counts,
    window_starts,
)
from seit_ray.images.label_maps import VOID
from seit_ray.shards.dataset import TokenDataset
from seit_ray.training.world import World
from tests.tiny_maps import write_camvid, write_map_dataset

CPU = torch.device("cpu")


class Echo(nn.Module):
    """Two classes a token: the code's last bit."""

    def __init__(self, grid):
        super().__init__()
        self.grid = grid

    def forward(self, tokens):
        bits = (tokens % 2).view(-1, 1, *self.grid)
        return torch.cat([1 - bits, bits], 1).float(), None


def drawn(num=5, classes=4, seed=0):
    """Truths with void and predictions [N] of maps of different sizes."""
    rng = np.random.default_rng(seed)
    sizes = [(rng.integers(3, 9), rng.integers(3, 9)) for _ in range(num)]
    truths = [rng.integers(0, classes - 1, size).astype(np.uint8) for size in sizes]  # the last class is nowhere
    for truth in truths:
        truth[rng.random(truth.shape) < 0.2] = VOID
    return truths, [rng.integers(0, classes - 1, truth.shape) for truth in truths]


def counted(truths, told, classes=4):
    counts = SegmentCounts(len(truths), classes, CPU)
    for row, (truth, seen) in enumerate(zip(truths, told, strict=True)):
        counts.add(row, torch.from_numpy(truth), torch.from_numpy(seen))
    return counts


def test_counts_and_figures_are_those_of_a_plain_loop():
    truths, told = drawn()
    counts = counted(truths, told)
    confusion = np.zeros((4, 4), int)
    for truth, seen in zip(truths, told, strict=True):
        for a, b in zip(truth.ravel().tolist(), seen.ravel().tolist(), strict=True):
            if a != VOID:
                confusion[a, b] += 1
    assert counts.confusion.tolist() == confusion.tolist()
    figures = figures_of(counts, ["a", "b", "c", "d"])
    ious = [confusion[c, c] / (confusion[c].sum() + confusion[:, c].sum() - confusion[c, c]) for c in range(3)]
    assert figures["miou"] == pytest.approx(sum(ious) / 3)
    assert figures["mean_accuracy"] == pytest.approx(sum(confusion[c, c] / confusion[c].sum() for c in range(3)) / 3)
    assert figures["pixel_accuracy"] == pytest.approx(np.trace(confusion) / confusion.sum())
    assert figures["samples"] == 5
    one = figures["classes"]["b"]
    others = [int(confusion[1, c]) if c != 1 else -1 for c in range(4)]
    assert (one["iou"], one["pixels"]) == (pytest.approx(ious[1]), confusion[1].sum())
    assert one["most_taken_for"] == "abcd"[int(np.argmax(others))]
    assert figures["classes"]["d"] == {"iou": None, "accuracy": None, "pixels": 0, "most_taken_for": None}


def test_standard_errors_are_those_of_leaving_out_an_image():
    truths, told = drawn(7)
    figures = figures_of(counted(truths, told), list("abcd"))
    left = []
    for out in range(7):
        keep = [i for i in range(7) if i != out]
        left.append(figures_of(counted([truths[i] for i in keep], [told[i] for i in keep]), list("abcd"))["miou"])
    spread = sum((value - sum(left) / 7) ** 2 for value in left)
    assert figures["miou_standard_error"] == pytest.approx(math.sqrt(6 / 7 * spread))


def test_one_image_has_no_standard_error():
    figures = figures_of(counted(*drawn(1)), list("abcd"))
    assert figures["samples"] == 1
    assert [figures[f"{name}_standard_error"] for name in ("miou", "mean_accuracy", "pixel_accuracy")] == [None] * 3


def test_an_image_of_void_alone_is_no_sample_and_nothing_is_no_mistake():
    truths, told = drawn(3)
    void = np.full((4, 4), VOID, np.uint8)
    more = figures_of(counted([*truths, void], [*told, np.zeros((4, 4), np.int64)]), list("abcd"))
    assert more == figures_of(counted(truths, told), list("abcd"))
    assert figures_of(counted([void], [np.zeros((4, 4), np.int64)]), list("abcd"))["samples"] == 0
    assert metrics_of(np.zeros(2), np.zeros(2), np.zeros(2))["miou"] == 0


@pytest.mark.parametrize(
    ("side", "window", "stride", "starts"),
    [(8, 4, 2, [0, 2, 4]), (8, 4, 3, [0, 3, 4]), (5, 5, 3, [0]), (9, 4, 4, [0, 4, 5])],
)
def test_windows_cover_a_side_to_its_end(side, window, stride, starts):
    assert window_starts(side, window, stride) == starts


@pytest.mark.parametrize("grid", [(4, 4), (3, 4)])
def test_windows_of_what_looks_at_each_token_are_the_whole(grid):
    tokens = torch.randint(0, 9, (2, 48), generator=torch.Generator().manual_seed(0))
    found = WindowedSegmenter(Echo(grid), (6, 8), 2)(tokens)
    whole, _ = Echo((6, 8))(tokens)
    assert torch.equal(found, whole)


def test_windows_that_do_not_fit_are_refused():
    for grid, stride in (((3, 8), None), ((8, 8), 5)):
        with pytest.raises(ValueError, match="windows of 4x4 cells"):
            WindowedSegmenter(Echo((4, 4)), grid, stride)


def test_labels_are_told_at_the_size_of_the_map():
    logits = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    assert labels_at(logits, (2, 4)).tolist() == [[0, 0, 1, 1]] * 2


def test_ranks_see_each_image_once_and_maps_keep_their_size(tmp_path):
    folder = write_map_dataset(tmp_path / "tokens", write_camvid(tmp_path / "photos", {"train": 5, "val": 7}))
    pairs = TokenPairs(TokenDataset(folder), "val")
    seen = [list(pairs.batches(2, World(rank, 3, CPU))) for rank in range(3)]
    rows = [row for batches in seen for batch in batches for row in batch.rows.tolist()]
    assert sorted(rows) == list(range(7))
    assert len({len(batches) for batches in seen}) <= 2
    batch: PairBatch = seen[0][0]
    assert batch.maps[0].shape == (20, 24)
    assert batch.keys[0] == "val/images/0005.png"
    whole = segment_counts(WindowedSegmenter(Echo((8, 8)), (8, 8)), pairs, 3, World(device=CPU), 3)
    assert whole.images[:, 1].sum(1).tolist() == [20 * 23] * 7  # a column is void
