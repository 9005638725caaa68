"""Micro-batches that halve where memory runs out: the same run, and a line that says so."""

import pytest
import torch

from seit_ray.objectives import SupervisedObjective
from seit_ray.storage import Folder
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


def test_ranks_find_out_before_they_meet_and_agree(run):
    class Peers(World):
        def gather(self, value):
            return [value, 2]

    objective = SmallDevice(4)
    trainer = tiny_trainer(run, objective=objective, world=Peers(0, 2, CPU.device))
    parts = trainer.host_parts(0)

    def add(step, parts):
        return trainer.gradients(trainer.model, step, parts, synced=False)

    trainer.micro_batches.try_memory(lambda parts: add(0, parts), trainer.model, parts, drop=trainer.drop_step)
    assert trainer.micro_batches.limit == 2
    assert all(p.grad is None for p in trainer.model.parameters())
    assert [len(batch) for _, batch in trainer.micro_batches.fitted(parts)] == [2] * 4
