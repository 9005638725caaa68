"""Which samples a step sees."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seit_ray.batches.sampler import epoch_permutation, num_steps, rank_span, step_rows

sizes = st.integers(1, 60)
seeds = st.integers(0, 2**32)


@given(num=sizes, batch=sizes, seed=seeds, epochs=st.integers(1, 4))
def test_each_sample_is_seen_once_an_epoch(num, batch, seed, epochs):
    steps = -(-num * epochs // batch)
    stream = np.concatenate([step_rows(num, batch, seed, step) for step in range(steps)])
    for epoch in range(epochs):
        assert sorted(stream[epoch * num : (epoch + 1) * num]) == list(range(num))


@given(num=sizes, batch=sizes, seed=seeds, step=st.integers(0, 1000), world=st.integers(1, 70))
def test_ranks_partition_the_global_batch(num, batch, seed, step, world):
    rows = step_rows(num, batch, seed, step)
    assert len(rows) == batch
    assert rows.dtype == np.int64
    parts = [rows[rank_span(batch, rank, world)] for rank in range(world)]
    np.testing.assert_array_equal(np.concatenate(parts), rows)
    assert max(map(len, parts)) - min(map(len, parts)) <= (2 if batch >= 2 * world else 1)
    assert batch < world or min(map(len, parts)) >= 1


@given(batch=sizes, world=st.integers(1, 70))
def test_pairs_of_rows_stay_together(batch, world):
    starts = [rank_span(batch, rank, world).start for rank in range(world)]
    assert batch < 2 * world or not any(start % 2 for start in starts)


@given(num=sizes, batch=sizes, seed=seeds, step=st.integers(0, 1000))
def test_a_step_is_a_function_of_its_numbers(num, batch, seed, step):
    first = step_rows(num, batch, seed, step).copy()
    epoch_permutation.cache_clear()
    step_rows(num, batch, seed + 1, 3 * step + 1)
    np.testing.assert_array_equal(step_rows(num, batch, seed, step), first)


@given(num=st.integers(2, 60), parts=st.integers(1, 6), seed=seeds, step=st.integers(0, 50))
def test_the_stream_does_not_depend_on_the_batch_size(num, parts, seed, step):
    whole = step_rows(num, 4 * parts, seed, step)
    smaller = [step_rows(num, 4, seed, step * parts + part) for part in range(parts)]
    np.testing.assert_array_equal(np.concatenate(smaller), whole)


def test_epochs_and_seeds_are_in_different_orders():
    orders = [tuple(epoch_permutation(50, seed, epoch)) for seed in (0, 1) for epoch in (0, 1)]
    assert len(set(orders)) == 4
    assert all(order != tuple(range(50)) for order in orders)


def test_the_order_is_the_same_on_every_machine():
    # Written down once: runs that were begun must go on in this order after an update of numpy, too.
    assert epoch_permutation(10, 0, 0).tolist() == [0, 7, 8, 6, 9, 5, 1, 3, 2, 4]
    assert epoch_permutation(10, 7, 3).tolist() == [8, 4, 5, 3, 6, 0, 9, 7, 1, 2]


@pytest.mark.parametrize(
    ("num", "batch", "epochs", "steps"), [(100, 10, 1, 10), (100, 30, 1, 3), (100, 30, 3, 10), (5, 10, 2, 1)]
)
def test_number_of_steps(num, batch, epochs, steps):
    assert num_steps(num, batch, epochs) == steps


@given(num=sizes, batch=sizes, epochs=st.integers(1, 5))
def test_a_run_takes_no_more_than_its_epochs(num, batch, epochs):
    if num * epochs >= batch:
        steps = num_steps(num, batch, epochs)
        assert steps * batch <= num * epochs < (steps + 1) * batch


def test_a_run_without_steps_is_an_error():
    with pytest.raises(ValueError, match=r"5 samples x 2 epochs with global_batch_size 11 .* use .* 10 or less"):
        num_steps(5, 11, 2)
