"""Micro-batches that halve where memory runs out: the same run, and a line that says so."""

import functools
import math

import pytest
import torch

from seit_ray.objectives import SupervisedObjective
from seit_ray.storage import Folder
from seit_ray.training import micro_batches
from seit_ray.training.device_memory import DeviceMemory, is_out_of_memory, keep_to_share
from seit_ray.training.gradients import add_gradients
from seit_ray.training.metrics import read_metrics
from seit_ray.training.world import World
from tests.tiny_trainers import CPU, losses, tiny_trainer
from tests.training.test_resume import Interrupted, stop_at

EACH = {"log_every_steps": 1, "checkpoint_every_steps": 1}


class SmallDevice(SupervisedObjective):
    """Memory for so many rows at a time, from a step on."""

    def __init__(self, most, first_step=0):
        super().__init__()
        self.most, self.first_step, self.seen = most, first_step, []

    def loss(self, model, batch, step_rng):
        loss, metrics = super().loss(model, batch, step_rng)
        if step_rng.step >= self.first_step:
            if len(batch.inputs) > self.most:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            self.seen.append(len(batch.inputs))
        return loss, metrics


@pytest.mark.parametrize(("most", "half", "first_step"), [(8, 8, 0), (5, 4, 3), (2, 2, 6)])
def test_out_of_memory_halves_the_micro_batches_and_the_run_stays_the_same(tmp_path, most, half, first_step):
    whole, less = Folder(tmp_path / "whole"), Folder(tmp_path / "less")
    tiny_trainer(whole, loop={"log_every_steps": 1}).train()
    notes, objective = [], SmallDevice(most, first_step)

    def tell(phase, done, total, note):
        notes.append(note)

    tiny_trainer(less, objective=objective, loop={"log_every_steps": 1}, on_progress=tell).train()
    assert losses(less) == pytest.approx(losses(whole), abs=1e-5)
    assert set(objective.seen) == {half}
    assert ("mfu" in read_metrics(less)[-1]) == (first_step > 0)  # what was tried in vain is not counted
    found = [note for note in notes if "out of memory" in note]
    assert found[-1].endswith(f"{half} from here on, as loop.max_micro_batch={half} has it from the start")
    assert f"at step {first_step + 1} with micro-batches of 16 samples" in found[0]


def test_a_pair_that_does_not_fit_is_a_mistake_that_says_so(run):
    with pytest.raises(ValueError, match=r"out of memory at step 1 with micro-batches of 2 samples; expected memory"):
        tiny_trainer(run, objective=SmallDevice(1)).train()


def test_one_rank_of_several_names_the_key(run):
    """The others are in their step: it cannot take its own again."""
    trainer = tiny_trainer(run, objective=SmallDevice(4), world=World(0, 2, CPU.device))
    parts = trainer.host_parts(0)
    with pytest.raises(ValueError, match=r"of 8 samples; expected what fits .*; set loop\.max_micro_batch=4$"):
        trainer.gradients(trainer.model, 0, parts)


def first_try(trainer):
    """What a GPU is asked before its first step."""
    found, more = trainer.micro_batches, {"settings": trainer.settings, "world": trainer.world, "precision": "fp32"}
    add = functools.partial(add_gradients, trainer.model, trainer.objective, 0, on_loss=lambda *told: None, **more)
    found.find_largest(add, trainer.optimizer, 0, trainer.host_parts(0), drop=trainer.drop_step)
    return found.limit


@pytest.mark.parametrize(("most", "limit"), [(2, 2), (3, 2), (8, 8), (15, 8), (16, None), (99, None)])
def test_the_largest_power_of_two_that_fits_is_found_from_below(run, most, limit):
    objective = SmallDevice(most)
    trainer = tiny_trainer(run, objective=objective)
    assert first_try(trainer) == limit
    assert objective.seen == [2, 4, 8, 16][: (limit or 16).bit_length() - 1]
    assert all(p.grad is None for p in trainer.model.parameters())
    assert not trainer.window.sums


def test_no_more_is_tried_than_the_user_lets(run):
    objective = SmallDevice(99)
    trainer = tiny_trainer(run, objective=objective, loop={"max_micro_batch": 6})
    assert first_try(trainer) == 6
    assert max(objective.seen) <= 6


class FakeMemory(DeviceMemory):
    """Of a device with so much of it: a rise for each row over what is always there."""

    def __init__(self, objective, *, free, fixed=10.0, row=1.0):
        super().__init__(CPU.device)
        self.objective, self.free, self.fixed, self.row = objective, free, fixed, row

    def budget(self):
        return self.free

    def watch(self):
        return self.fixed

    def most(self):
        return self.fixed + self.row * self.objective.seen[-1]


@pytest.mark.parametrize(("free", "limit", "tried"), [(100, None, 16), (25, 8, 8), (18, 8, 8), (17, 4, 4), (11, 0, 2)])
def test_what_would_fill_the_memory_is_not_even_tried(run, free, limit, tried):
    """Others may be on the device: of what comes next, what there was says how much it takes."""
    trainer = tiny_trainer(run, objective=(objective := SmallDevice(99)))
    trainer.micro_batches.memory = FakeMemory(objective, free=free)
    if limit == 0:
        with pytest.raises(ValueError, match="expected memory for a pair of them"):
            first_try(trainer)
    else:
        assert first_try(trainer) == limit
    assert max(objective.seen) == tried


def test_what_takes_more_than_was_expected_does_not_fit(run):
    trainer = tiny_trainer(run, objective=(objective := SmallDevice(99)))
    memory = trainer.micro_batches.memory = FakeMemory(objective, free=100)
    memory.most = lambda: 10 + objective.seen[-1] ** 2
    assert first_try(trainer) == 8


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_libraries_run_out_of_memory_in_their_own_words(error, expected):
    assert is_out_of_memory(error) == expected


@pytest.mark.parametrize(
    ("device", "share", "kept"),
    [("cuda:1", 0.25, 0.25), ("cuda:1", 1.0, None), ("cuda:1", 0.0, None), ("cpu", 0.5, None)],
)
def test_a_process_keeps_to_its_share_of_a_gpu(monkeypatch, device, share, kept):
    taken = []
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda share, device: taken.append((share, device))
    )
    keep_to_share(torch.device(device), share)
    assert taken == ([] if kept is None else [(kept, torch.device(device))])


def test_another_error_ends_what_is_tried(run):
    def add(parts):
        raise RuntimeError("CUDA error: device-side assert triggered")

    trainer = tiny_trainer(run)
    for what in (trainer.micro_batches.fitting, trainer.micro_batches.taken):
        given = (0, trainer.host_parts(0)) if what == trainer.micro_batches.fitting else (trainer.host_parts(0),)
        with pytest.raises(RuntimeError, match="assert triggered"):
            what(add, *given, drop=trainer.drop_step)


def test_room_is_kept_for_moments_that_there_are_not_yet(run):
    trainer = tiny_trainer(run)
    trainer.model.head.bias.requires_grad = False  # such parameters have none
    parameters = [p for group in trainer.optimizer.param_groups for p in group["params"]]
    assert len(micro_batches.stateless(trainer.optimizer)) == len(parameters)
    trainer.step(trainer.model, 0, trainer.host_parts(0))
    assert [len(p) for p in micro_batches.stateless(trainer.optimizer)] == [len(trainer.model.head.bias)]


@pytest.mark.parametrize(("largest", "limit"), [(None, 4), (2, 2), (8, 4)])
def test_a_run_goes_on_with_the_micro_batches_that_it_had(run, largest, limit):
    """Halved or found: others draw another dropout."""
    with pytest.raises(Interrupted):
        tiny_trainer(run, objective=SmallDevice(4), loop=EACH, on_progress=stop_at(3)).train()
    objective = SmallDevice(99)
    trainer = tiny_trainer(run, objective=objective, loop={**EACH, "max_micro_batch": largest})
    assert trainer.resume() > 0
    assert trainer.micro_batches.limit == limit
    trainer.micro_batches.memory = FakeMemory(objective, free=12)  # by which no more than a pair would be taken to fit
    assert first_try(trainer) == limit
    trainer.objective.most = 3  # less memory than there was
    assert first_try(trainer) == 2


def test_a_first_try_without_room_for_a_pair_is_a_mistake_that_says_so(run):
    with pytest.raises(ValueError, match=r"out of memory at step 1 with micro-batches of 2 samples; expected memory"):
        first_try(tiny_trainer(run, objective=SmallDevice(1)))


def test_ranks_find_out_before_they_meet_and_agree(run):
    class Peers(World):
        def gather(self, value):
            return [value, peer]

    peer = (2, False)
    trainer = tiny_trainer(run, objective=SmallDevice(4), world=Peers(0, 2, CPU.device))
    parts = trainer.host_parts(0)
    assert first_try(trainer) == 2
    assert [len(batch) for _, batch in trainer.micro_batches.fitted(parts)] == [2] * 4
    peer = (6, True)  # a smaller share of the batch, which fits as a whole, is no limit
    whole = tiny_trainer(run, objective=SmallDevice(99), world=Peers(0, 2, CPU.device))
    assert first_try(whole) is None


def test_of_a_cpu_all_may_be_taken():
    memory = DeviceMemory(CPU.device)
    assert (memory.budget(), memory.watch(), memory.most()) == (math.inf, 0.0, 0.0)


def test_of_a_gpu_neighbours_keep_what_they_have(monkeypatch):
    for name, value in {
        "mem_get_info": (30, 100),
        "memory_reserved": 20,
        "get_per_process_memory_fraction": 1.0,
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    memory = DeviceMemory(torch.device("cuda", 0))
    assert memory.budget() == pytest.approx(0.85 * 50)
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda device: 0.25)
    assert memory.budget() == pytest.approx(0.85 * 25)
