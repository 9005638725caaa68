"""What holds of morphing whatever the tokens, the schedule and the split."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from seit_ray.augment.random import StepRandom
from seit_ray.objectives.morph_loss import Morphing
from seit_ray.objectives.morph_targets import CodebookTarget, MorphInputs, StreamTarget
from seit_ray.objectives.morphing import (
    DISTANCES,
    Groups,
    Schedule,
    distance,
    draw_schedules,
    group_means,
    grouped_losses,
    iteration_size,
    merge_alike,
    morph_loss,
)


def rng(step=0, rows=3):
    return StepRandom(5, step, slice(0, rows), rows)


def tokens_of(seed, rows=3, num=12, width=5):
    return torch.randn(rows, num, width, generator=torch.Generator().manual_seed(seed))


CASES = (
    st.integers(0, 999),
    st.integers(1, 17),
    st.integers(1, 6),
    st.integers(0, 12),
    st.sampled_from(["parity", "random"]),
    st.sampled_from(["none", "first"]),
)


def plain_groups(features, schedule, protect):
    """One row at a time, with lists: what the batched form has to give for the split by parity."""
    found = []
    for row in features.double():
        tokens, members = [t.clone() for t in row], [[i] for i in range(len(row))]
        for _ in range(schedule.iterations if schedule.merged else 0):  # nothing to merge leaves the order too
            merged = min(schedule.merged, (len(tokens) - (protect == "first")) // 2)
            a, b = list(range(0, len(tokens), 2)), list(range(1, len(tokens), 2))
            cosines = [[F.cosine_similarity(tokens[i], tokens[j], dim=0).item() for j in b] for i in a]
            order = sorted(range(len(a)), key=lambda i: -max(cosines[i]) if b else 0)
            order = [i for i in order if not (protect == "first" and a[i] == 0)][:merged]
            joins = {a[i]: b[max(range(len(b)), key=lambda j, i=i: cosines[i][j])] for i in order}
            for i, j in joins.items():
                members[j] = members[j] + members[i]
            kept = [i for i in a if i not in joins] + b
            members = [members[i] for i in kept]
            tokens = [row[m].mean(0) for m in members]
        ids = [next(g for g, m in enumerate(members) if i in m) for i in range(len(row))]
        found.append(ids)
    return found


@settings(max_examples=25, deadline=None)
@given(*CASES[:4], CASES[5])
def test_groups_are_those_of_the_plain_form(seed, num, iterations, merged, protect):
    features = tokens_of(seed, num=num)
    schedule = Schedule(iterations, merged)
    assert merge_alike(features, schedule, protect=protect).ids.tolist() == plain_groups(features, schedule, protect)


@settings(max_examples=40, deadline=None)
@given(*CASES)
def test_groups_are_tokens_less_merges(seed, num, iterations, merged, split, protect):
    groups = merge_alike(
        tokens_of(seed, num=num), Schedule(iterations, merged), split=split, protect=protect, rng=rng()
    )
    left = num
    for _ in range(iterations):
        left -= min(merged, (left - (protect == "first")) // 2)
    assert groups.num == left
    for ids in groups.ids:
        assert sorted(set(ids.tolist())) == list(range(left))
    if protect == "first":
        assert ((groups.ids == groups.ids[:, :1]).sum(1) == 1).all()


@settings(max_examples=30, deadline=None)
@given(*CASES)
def test_means_are_kept_and_equal_within_a_group(seed, num, iterations, merged, split, protect):
    values = tokens_of(seed, num=num)
    groups = merge_alike(values, Schedule(iterations, merged), split=split, protect=protect, rng=rng())
    means = group_means(values, groups)
    torch.testing.assert_close(means.mean(1), values.mean(1), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(group_means(means, groups), means, atol=1e-5, rtol=1e-4)  # a projection
    for row, ids in zip(means, groups.ids, strict=True):
        for number in range(groups.num):
            chosen = row[ids == number]
            torch.testing.assert_close(chosen, chosen[:1].expand_as(chosen))


@pytest.mark.parametrize("kind", DISTANCES)
def test_without_merges_it_is_the_token_wise_loss(kind):
    values, targets = tokens_of(0), tokens_of(1)
    identity = merge_alike(targets, Schedule(5, 0))
    torch.testing.assert_close(morph_loss(values, targets, [identity, identity], kind), distance(values, targets, kind))


def test_without_merges_histograms_and_labels_are_cross_entropy():
    scores = torch.randn(3, 6, 4, 9, generator=torch.Generator().manual_seed(0))
    codes = torch.randint(9, (3, 6, 4), generator=torch.Generator().manual_seed(1))
    expected = F.cross_entropy(scores.flatten(0, 2), codes.flatten())
    for found in grouped_losses(scores, codes, merge_alike(tokens_of(0, num=6), Schedule(1, 0))):
        torch.testing.assert_close(found, expected)


def test_histograms_and_labels_equal_the_dense_form():
    scores = torch.randn(2, 5, 3, 7, generator=torch.Generator().manual_seed(0))
    codes = torch.randint(7, (2, 5, 3), generator=torch.Generator().manual_seed(1))
    groups = Groups(torch.tensor([[0, 1, 0, 2, 1], [2, 2, 2, 0, 1]]), 3)
    _, bags, soft = grouped_losses(scores, codes, groups)
    p, log_p, total_bags, total_soft = scores.softmax(3), scores.log_softmax(3), 0.0, 0.0
    for row in range(2):
        for number in range(3):
            members = groups.ids[row] == number
            for place in range(3):
                histogram = F.one_hot(codes[row, members, place], 7).float().mean(0)
                mean = p[row, members, place].mean(0)
                total_bags += members.sum() * -(histogram * mean.log()).sum()
                total_soft += -(histogram * log_p[row, members, place]).sum()
    torch.testing.assert_close(bags, total_bags / 30)
    torch.testing.assert_close(soft, total_soft / 30)


def test_parallel_tokens_merge_first():
    tokens = torch.tensor([[[1.0, 0], [0, 1], [0, -1], [2.0, 0.001], [0.3, 1], [-1, 0]]])
    groups = merge_alike(tokens, Schedule(1, 1))
    assert groups.ids[0, 0] == groups.ids[0, 3]  # place 0 of A found place 3 of B
    assert groups.num == 5


def test_a_random_split_changes_from_row_to_row_and_step_to_step():
    tokens = tokens_of(0, rows=1).expand(3, -1, -1)
    one, other = (merge_alike(tokens, Schedule(3, 2), split="random", rng=rng(step)).ids for step in (0, 1))
    assert not torch.equal(one, other)
    assert not torch.equal(one[0], one[1])
    assert torch.equal(merge_alike(tokens, Schedule(3, 2), split="random", rng=rng()).ids, one)
    with pytest.raises(ValueError, match="random with random numbers"):
        merge_alike(tokens, Schedule(3, 2), split="random")
    with pytest.raises(ValueError, match="protect 'last'"):
        merge_alike(tokens, Schedule(3, 2), protect="last")


def test_no_gradient_goes_into_groups_or_targets():
    target = tokens_of(0).requires_grad_()
    values = tokens_of(1).requires_grad_()
    groups = merge_alike(target, Schedule(2, 3))
    morph_loss(values, target.detach(), [groups]).backward()
    assert target.grad is None
    assert values.grad.abs().sum() > 0


def test_schedules_are_drawn_for_the_whole_batch():
    drawn = [draw_schedules(rng(step), 196) for step in range(400)]
    for half in (slice(0, 1), slice(2, 3)):
        assert draw_schedules(StepRandom(5, 7, half, 3), 196) == drawn[7]
    assert all(1 <= s.iterations <= 14 for pair in drawn for s in pair)
    assert all(s.iterations * s.merged <= 196 for pair in drawn for s in pair)
    assert {s.iterations for pair in drawn for s in pair} == set(range(1, 15))
    mean = sum(s.iterations * s.merged for pair in drawn for s in pair) / 800
    assert 92 < mean < 106  # half of 196, a little more by rounding up
    assert drawn[0] != drawn[1]
    fixed = draw_schedules(rng(), 49, levels=3, max_removed=0)
    assert [s.merged for s in fixed] == [0, 0, 0]


@pytest.mark.parametrize(
    ("removed", "iterations", "size"), [(10, 3, 4), (49, 4, 12), (0, 3, 0), (47, 14, 3), (48, 5, 9)]
)
def test_iterations_round_up_unless_that_is_too_many(removed, iterations, size):
    up = math.ceil(removed / iterations)
    assert iteration_size(removed, iterations, 49) == size == (up if up * iterations <= 49 else removed // iterations)


@pytest.mark.parametrize("numbers", [{"levels": 0}, {"max_iterations": 0}, {"max_removed": 50}])
def test_wrong_schedules_are_errors(numbers):
    with pytest.raises(ValueError, match=r"correct dtm\.levels"):
        draw_schedules(rng(), 49, **numbers)


def test_groups_do_not_depend_on_what_is_predicted_or_masked():
    codebook = torch.rand(9, 4, generator=torch.Generator().manual_seed(0))
    morphing = Morphing(CodebookTarget(codebook, 4), patch_grid=(3, 4), unit=2)
    units = torch.randint(9, (3, 12, 4), generator=torch.Generator().manual_seed(2))
    given_ = MorphInputs(units.flatten(1), units)
    levels = morphing.levels(morphing.target_of(None, given_), rng())
    # The loss of any prediction is that of these groups, whatever else the step drew.
    for seed in (0, 1):
        predicted = tokens_of(seed, num=12, width=16)
        found = morphing.loss(None, predicted, given_, rng())
        torch.testing.assert_close(found, morph_loss(predicted, codebook[units].flatten(2), levels))


def test_codes_are_grouped_in_raster_order():
    codebook = torch.rand(30, 4, generator=torch.Generator().manual_seed(0))
    morphing = Morphing(CodebookTarget(codebook, 4), patch_grid=(2, 3), unit=2, on="codes")
    grid = torch.arange(24).view(1, 4, 6)
    units = grid.view(1, 2, 2, 3, 2).transpose(2, 3).reshape(1, 6, 4)
    target = morphing.target_of(None, MorphInputs(grid.flatten(1), units))
    assert torch.equal(target, codebook[grid.flatten(1)])
    assert morphing.schedule["max_iterations"] == 6


def test_rows_of_a_second_stream_come_by_patches():
    codebook = torch.arange(16.0).view(16, 1)
    target = StreamTarget(codebook, (4, 4), (2, 2))
    assert target.dim == 4
    found = target(None, MorphInputs(torch.zeros(1), None, torch.arange(16).view(1, 16)), None)
    assert found[0].tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    for grid in ((4, 2), (3, 3), (1, 1)):
        with pytest.raises(ValueError, match="for 2x2 patches; expected the same, or a multiple"):
            StreamTarget(codebook, grid, (2, 2))


def test_what_does_not_fit_is_one_line():
    target = CodebookTarget(torch.rand(5, 4), 1)
    for wrong in ({"kind": "bags"}, {"on": "pixels"}, {"distance": "l3"}):
        with pytest.raises(ValueError, match="; choose"):
            Morphing(target, patch_grid=(2, 2), **wrong)
    with pytest.raises(ValueError, match=r"set dtm.target=codebook"):
        Morphing(StreamTarget(torch.rand(5, 4), (2, 2), (2, 2)), patch_grid=(2, 2), on="codes")
    morphing = Morphing(target, patch_grid=(3, 3))
    with pytest.raises(ValueError, match="targets of 4 patches; expected 3x3"):
        morphing.target_of(None, MorphInputs(torch.zeros(1), torch.zeros(1, 4, 1, dtype=torch.long)))
