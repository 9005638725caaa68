"""A split that is streamed shard by shard."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seit_ray.batches.memory import memory_budget, total_memory
from seit_ray.batches.sampler import buffered_permutation, epoch_permutation, part_spans, rank_span
from seit_ray.batches.store import TokenStore
from seit_ray.batches.stream import TokenStream, open_split, row_bytes
from seit_ray.shards import TokenDataset
from tests.tiny_dataset import write_dataset

CPU = torch.device("cpu")
shards = st.lists(st.integers(1, 20), min_size=1, max_size=8).map(tuple)


@given(shard_rows=shards, buffer_rows=st.integers(1, 60), seed=st.integers(0, 9), epoch=st.integers(0, 3))
def test_each_row_comes_once_an_epoch(shard_rows, buffer_rows, seed, epoch):
    order = buffered_permutation(shard_rows, buffer_rows, seed, epoch)
    assert sorted(order) == list(range(sum(shard_rows)))


@given(shard_rows=shards, seed=st.integers(0, 9), epoch=st.integers(0, 3), more=st.integers(0, 9))
def test_a_buffer_that_covers_the_split_gives_the_usual_order(shard_rows, seed, epoch, more):
    num = sum(shard_rows)
    order = buffered_permutation(shard_rows, num + more, seed, epoch)
    assert order.tolist() == epoch_permutation(num, seed, epoch).tolist()


def test_epochs_and_seeds_have_other_orders_and_shards_mix():
    orders = [buffered_permutation((10,) * 6, 20, seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4
    firsts = [set(order[:20] // 10) for order in orders]
    assert all(len(group) == 2 for group in firsts)  # two shards together
    assert any((np.diff(order[:20] // 10) != 0).sum() > 3 for order in orders)


@given(
    start=st.integers(0, 4).map(lambda n: 2 * n),
    num=st.integers(1, 40),
    accum=st.integers(1, 50),
    most=st.integers(2, 50),
)
def test_micro_batches_cover_a_ranks_rows_and_keep_pairs(start, num, accum, most):
    spans = part_spans(slice(start, start + num), accum, most)
    assert [n for span in spans for n in range(span.start, span.stop)] == list(range(start, start + num))
    assert not any(span.start % 2 for span in spans)
    assert max(span.stop - span.start for span in spans) <= most
    assert len(spans) >= min(accum, num // 2)


@pytest.fixture
def dataset(tmp_path):
    return TokenDataset(write_dataset(tmp_path / "tokens", sizes={"train": 95, "val": 8}, rows_per_shard=10))


def stream_of(dataset, rows_held, **more):
    """A stream that may hold so many rows."""
    return TokenStream(dataset, "train", memory_bytes=rows_held * row_bytes(dataset), **more)


@pytest.mark.parametrize("rows_held", [1, 20, 45, 1000])
def test_rows_are_those_of_the_split_however_few_are_held(dataset, rows_held):
    store, stream = TokenStore.read(dataset, "train", need_labels=True), stream_of(dataset, rows_held)
    assert len(stream) == len(store) == 95
    assert stream.labels.tolist() == store.labels.tolist()
    for rows in (np.random.default_rng(0).permutation(95), np.array([94, 0, 94]), slice(7, 33), slice(0, 0)):
        found, expected = stream.batch(rows, CPU), store.batch(rows, CPU)
        assert torch.equal(found.inputs, expected.inputs)
        assert torch.equal(found.labels, expected.labels)


def test_a_stream_that_may_hold_all_gives_the_samples_of_the_store(dataset):
    store, stream = TokenStore.read(dataset, "train", need_labels=True), stream_of(dataset, 200)
    for step in (0, 3, 7, 20):
        rows = stream.step_rows(16, 5, step)
        assert rows.tolist() == store.step_rows(16, 5, step).tolist()
        assert torch.equal(stream.batch(rows, CPU).inputs, store.batch(rows, CPU).inputs)


def test_memory_stays_bounded(dataset):
    stream = stream_of(dataset, 40)
    assert stream.shuffle_rows == 20
    seen = []
    for step in range(12):
        rows = stream.step_rows(8, 0, step)
        stream.host_batch(rows)
        seen.extend(rows.tolist())
        assert stream.held.num_held <= 40
    assert sorted(seen[:95]) == list(range(95))


def test_the_order_of_a_run_is_kept_with_another_memory(dataset):
    small, large = stream_of(dataset, 40), stream_of(dataset, 80)
    store = TokenStore.read(dataset, "train", need_labels=False)
    wanted = [small.step_rows(8, 0, step).tolist() for step in range(12)]
    for other in (large, store):
        again = other.in_order(small.shuffle_rows)
        assert [again.step_rows(8, 0, step).tolist() for step in range(12)] == wanted
    assert [large.step_rows(8, 0, step).tolist() for step in range(12)] != wanted


@pytest.mark.parametrize("rows_held", [40, 200])
def test_a_run_goes_on_mid_epoch_with_other_workers(dataset, rows_held):
    """Each step's rows, whoever takes them: two ranks, then, from within an epoch on, three that begin anew."""
    whole, seen = stream_of(dataset, rows_held), []
    for world_size, steps in ((2, range(7)), (3, range(7, 15))):
        ranks = [stream_of(dataset, rows_held) for _ in range(world_size)]
        for step in steps:
            parts = [rank_span(16, rank, world_size) for rank in range(world_size)]
            rows = [stream.step_rows(16, 0, step)[part] for stream, part in zip(ranks, parts, strict=True)]
            found = [stream.host_batch(some).inputs for stream, some in zip(ranks, rows, strict=True)]
            everyone = whole.step_rows(16, 0, step)
            assert np.concatenate(rows).tolist() == everyone.tolist()
            assert torch.equal(torch.cat(found), whole.host_batch(everyone).inputs)
            seen.extend(everyone.tolist())
    assert sorted(seen[:95]) == sorted(seen[95:190]) == list(range(95))


def test_crops_are_those_of_the_store(dataset):
    store, stream = TokenStore.read(dataset, "train", need_labels=False), stream_of(dataset, 20)
    found, expected = (source.cropped((4, 4), (2, 2)).batch(slice(3, 50), CPU) for source in (stream, store))
    assert torch.equal(found.inputs, expected.inputs)
    assert found.inputs.shape == (47, 4)


def test_the_choice_follows_the_memory(dataset):
    gib = 95 * row_bytes(dataset) / 2**30
    store = open_split(dataset, "train", need_labels=True, memory_gib=gib * 1.01)
    stream = open_split(dataset, "train", need_labels=True, memory_gib=gib * 0.5)
    assert isinstance(store, TokenStore)
    assert isinstance(stream, TokenStream)
    assert store.describe() == "95 rows in memory, 0 MiB"
    assert stream.describe().startswith("95 rows streamed, 0 MiB of them in memory, shuffled 23 at a time")
    assert isinstance(open_split(dataset, "train", need_labels=True), TokenStore)
    assert memory_budget(None) == total_memory() // 2
    assert memory_budget(1.5) == 3 << 29


def test_missing_labels_and_damaged_shards_are_errors(tmp_path):
    folder = write_dataset(tmp_path / "tokens", num_classes=0)
    with pytest.raises(ValueError, match="has 25 of 25 images without a label"):
        TokenStream(TokenDataset(folder), "train", memory_bytes=1, need_labels=True)
    folder.write("train/shard-00002.parquet", b"damaged")
    stream = TokenStream(TokenDataset(folder), "train", memory_bytes=1)
    with pytest.raises(ValueError, match=r"shard-00002.parquet has a wrong checksum"):
        stream.batch(slice(0, 25), CPU)


def test_large_splits_are_shared(tmp_path, monkeypatch):
    monkeypatch.setattr("seit_ray.batches.store.SHARED_BYTES", 1)
    dataset = TokenDataset(write_dataset(tmp_path / "tokens"))
    first = TokenStore.read(dataset, "train", need_labels=True)
    monkeypatch.setattr(TokenDataset, "read_shard", None)  # would be called
    second = TokenStore.read(dataset, "train", need_labels=True)
    assert np.array_equal(first.tokens, second.tokens)
    assert np.array_equal(first.labels, second.labels)
    assert first.describe() == "25 rows in memory, 0 MiB, one copy a node"


def test_what_is_read_ahead_is_not_dropped_before_what_is_over(tmp_path):
    """An epoch reads every shard once, though not all of them fit."""
    folder = write_dataset(tmp_path / "tokens", sizes={"train": 400, "val": 8}, rows_per_shard=10)
    stream = TokenStream(TokenDataset(folder), "train", memory_bytes=100 * row_bytes(TokenDataset(folder)))
    reads = []
    real = stream.held.read
    stream.held.read = lambda shard: reads.append(shard) or real(shard)
    for step in range(100):
        stream.host_batch(stream.step_rows(4, 0, step))
    assert len(reads) <= 40 + 10 + 4  # those of the epoch, and what was read ahead of the next one
    assert stream.held.num_held <= 100


def test_a_closed_stream_reads_nothing_more_ahead(dataset):
    stream = stream_of(dataset, 40)
    stream.close()
    with pytest.raises(RuntimeError, match="shutdown"):
        stream.step_rows(8, 0, 0)
