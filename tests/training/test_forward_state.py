"""What a forward moves of a model, where its step does not count or is done again."""

import pytest
import torch

from seit_ray.objectives.autoencoder import AutoencoderObjective
from tests.tiny_trainers import take_step
from tests.tokenizers.vit_vqgan.workers import image_trainer

REVIVED = 4  # a step whose first micro-batch moves unused codes


class Faulty(AutoencoderObjective):
    """From a step on: a loss that is not finite, or no memory for more than so many rows behind the forward."""

    def __init__(self, step, *, most=None):
        super().__init__(revive_steps=REVIVED)
        self.step, self.most = step, most

    def loss(self, model, batch, step_rng):
        loss, metrics = super().loss(model, batch, step_rng)
        if step_rng.step != self.step:
            return loss, metrics
        if self.most is None:
            return loss * float("nan"), metrics
        if len(batch.inputs) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return loss, metrics


def state_of(trainer):
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


@pytest.mark.parametrize("update", ["gradient", "ema"])
def test_a_step_that_does_not_count_moves_nothing_of_a_codebook(run, update):
    trainer = image_trainer(run, update)
    trainer.objective = Faulty(REVIVED)
    for step in range(REVIVED):
        take_step(trainer, step)
    before = state_of(trainer)
    take_step(trainer, REVIVED)
    assert all(value.equal(before[name]) for name, value in state_of(trainer).items())
    take_step(trainer, REVIVED + 1)  # the next one counts
    assert not all(value.equal(before[name]) for name, value in state_of(trainer).items())


@pytest.mark.parametrize("update", ["gradient", "ema"])
def test_a_step_that_is_done_again_counts_once(tmp_path, update):
    from seit_ray.storage import Folder

    found = []
    for name, most in (("whole", None), ("again", 6)):
        trainer = image_trainer(Folder(tmp_path / name), update, loop={"max_micro_batch": 6} if most is None else {})
        trainer.objective = Faulty(REVIVED if most else -1, most=most)
        for step in range(REVIVED + 1):
            take_step(trainer, step)
        found.append(state_of(trainer))
    uses = [state["code_uses"].sum().item() for state in found]
    assert uses[0] == uses[1] == 12 * 16  # of the step that revived alone
