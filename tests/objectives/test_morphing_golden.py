"""Morphing against the recordings of the published code: schedules, groups, means, losses, gradients."""

import random

import pytest
import torch

from seit_ray.objectives.morphing import (
    Groups,
    Schedule,
    draw_schedules,
    group_means,
    iteration_size,
    means_of,
    merge_alike,
    morph_loss,
)
from tests.recordings import Recording

RECORD = Recording("dtm")
PUBLISHED = {"protect": "first"}
KINDS = {"smoothl1": "smooth_l1", "l1": "l1", "l2": "l2", "negcosine": "cosine", "smoothl1_normtarget": "smooth_l1"}


def numbers(name):
    """r and k of a name like out/r4_k3/..."""
    merged, iterations = name.split("/")[1].split("_")
    return Schedule(int(iterations[1:]), int(merged[1:]))


@pytest.mark.parametrize("key", sorted({k.rsplit("/", 1)[0] for k in RECORD.keys("out/r")}))
def test_groups_equal_the_golden_recording(key):
    target = RECORD["in/target"]
    groups = merge_alike(target, numbers(key + "/"), **PUBLISHED)
    assert torch.equal(groups.ids, RECORD[f"{key}/group_of_token"])
    source = RECORD[f"{key}/source"]
    assert groups.num == source.shape[1]
    assert torch.equal(source.argmax(1), groups.ids)
    means, sizes = means_of(target, torch.ones_like(target[..., :1]), groups.ids, groups.num)
    RECORD.same(f"{key}/merged", means, atol=1e-5, rtol=1e-5)
    if f"{key}/size" in RECORD:
        RECORD.same(f"{key}/size", sizes, atol=0, rtol=0)


@pytest.mark.parametrize("name", [k.split("/")[1] for k in RECORD.keys("out/single_") if k.endswith("/source")])
def test_one_merge_equals_the_golden_recording(name):
    target = RECORD["in/target"]
    source = RECORD[f"out/{name}/source"].bool()
    protect = "none" if name.endswith("_nocls") else "first"
    groups = merge_alike(target, Schedule(1, target.shape[1] - source.shape[1]), protect=protect)
    assert groups.num == source.shape[1]
    for ids, rows in zip(groups.ids, source, strict=True):  # as sets: without a protected token they come in disorder
        found = {tuple((ids == number).nonzero().flatten().tolist()) for number in range(groups.num)}
        assert found == {tuple(row.nonzero().flatten().tolist()) for row in rows}


@pytest.mark.parametrize("key", list(RECORD.keys("out/draw_")))
def test_schedules_equal_the_golden_recording(key):
    num_tokens = int(key.split("_n")[1].split("_")[0])
    most = int(key.split("_k")[1].split("/")[0])
    seed = int(key.split("seed")[1].split("_")[0])
    random.seed(seed)
    removed = [random.randint(0, num_tokens) for _ in range(2)]
    iterations = [random.randint(1, most) for _ in range(2)]
    rates = [iteration_size(n, k, num_tokens) for n, k in zip(removed, iterations, strict=True)]
    assert RECORD[key].tolist() == [removed, iterations, rates]


class Drawn:
    """Numbers as the recording drew them, one batch."""

    def __init__(self, seed, num_tokens, most):
        random.seed(seed)
        removed = [random.randint(0, num_tokens) for _ in range(2)]
        iterations = [random.randint(1, most) for _ in range(2)]
        self.numbers = {f"morph removed {i}": (removed[i] + 0.5) / (num_tokens + 1) for i in range(2)}
        self.numbers |= {f"morph iterations {i}": (iterations[i] - 0.5) / most for i in range(2)}

    def number(self, stream):
        return self.numbers[stream]


@pytest.mark.parametrize("key", [k for k in RECORD.keys("f64/") if k.endswith("/loss")])
def test_losses_and_gradients_equal_the_golden_recording(key):
    kind, seed = key.split("/")[1], int(key.split("seed")[1].split("/")[0])
    target, online = RECORD["in/target"], RECORD["in/online"].clone().requires_grad_()
    num = target.shape[1]
    [most] = {int(k.split("_k")[1].split("/")[0]) for k in RECORD.keys(f"out/draw_n{num}_k")}
    schedules = draw_schedules(Drawn(seed, num, most), num, max_iterations=most)
    levels = [merge_alike(target, schedule, **PUBLISHED) for schedule in schedules]
    loss = morph_loss(online, target, levels, KINDS[kind], normalize_target=kind.endswith("_normtarget"))
    # The recording adds 1e-6 to the size of a group before it divides.
    assert loss.item() == pytest.approx(RECORD[key].item(), rel=5e-6)
    gradient = f"out/{kind}/seed{seed}/online_grad"
    if gradient in RECORD:
        loss.backward()
        RECORD.same(gradient, online.grad, atol=1e-7, rtol=1e-4)


@pytest.mark.parametrize("key", [k for k in RECORD.keys("out/r") if k.endswith("/source")])
def test_means_equal_the_dense_form_of_the_golden_recording(key):
    target = RECORD["in/target"]
    source = RECORD[key].float()
    groups = Groups(source.argmax(1), source.shape[1])
    dense = source.transpose(1, 2) @ (source @ target / source.sum(2, keepdim=True))
    torch.testing.assert_close(group_means(target, groups), dense, atol=1e-5, rtol=1e-5)
