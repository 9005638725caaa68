"""Micro-batches that halve where memory runs out: the same run, and a line that says so."""

import functools

import pytest
import torch

from seit_ray.objectives import SupervisedObjective
from seit_ray.storage import Folder
from seit_ray.training import micro_batches
from seit_ray.training.gradients import add_gradients
from seit_ray.training.metrics import read_metrics
from seit_ray.training.world import World
from tests.tiny_trainers import CPU, losses, tiny_trainer


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
    found.find_largest(add, trainer.model, 0, trainer.host_parts(0), drop=trainer.drop_step)
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


def test_what_fills_the_memory_is_too_large(run, monkeypatch):
    """Though it fits this once: the next step need not."""
    trainer = tiny_trainer(run, objective=(objective := SmallDevice(99)))
    monkeypatch.setattr(micro_batches, "is_crowded", lambda device: objective.seen[-1] > 4)
    assert first_try(trainer) == 4


def test_a_first_try_without_room_for_a_pair_is_a_mistake_that_says_so(run):
    with pytest.raises(ValueError, match=r"out of memory at step 1 with micro-batches of 2 samples; expected memory"):
        first_try(tiny_trainer(run, objective=SmallDevice(1)))


def test_ranks_find_out_before_they_meet_and_agree(run):
    class Peers(World):
        def gather(self, value):
            return [value, 2]

    trainer = tiny_trainer(run, objective=SmallDevice(4), world=Peers(0, 2, CPU.device))
    parts = trainer.host_parts(0)
    assert first_try(trainer) == 2
    assert [len(batch) for _, batch in trainer.micro_batches.fitted(parts)] == [2] * 4


def test_a_cpu_is_never_crowded():
    assert not micro_batches.is_crowded(CPU.device)
