"""What a step that is not finite leaves, and the same step again by itself."""

import contextlib
import json
import math

import pytest
import torch

from seit_ray.models.weights import load_weights
from seit_ray.objectives import MorphedMTMObjective, MTMObjective, SupervisedObjective
from seit_ray.objectives.morph_loss import Morphing
from seit_ray.objectives.morph_targets import AverageTarget
from seit_ray.storage import Folder
from seit_ray.training.agreement import Flags
from seit_ray.training.bad_steps import MOST_KEPT, BadSteps
from seit_ray.training.replay import replay_step
from seit_ray.training.requests import Stopped
from seit_ray.training.world import World
from tests.tiny_dataset import SIDE, write_dataset
from tests.tiny_trainers import CPU, SIZE, take_step, tiny_classifier, tiny_masked, tiny_store, tiny_trainer
from tests.training.test_skipping import Exploding

EACH = {"log_every_steps": 1, "max_skipped_steps": 9}


class BadSample(SupervisedObjective):
    """A sample of this number makes an activation infinite."""

    def __init__(self, store, number):
        super().__init__()
        self.tokens = torch.from_numpy(store.tokens[number].astype("int64"))

    def loss(self, model, batch, step_rng):
        bad = (batch.inputs == self.tokens).all(1).any()
        core = getattr(model, "module", model)
        if not bad:
            return super().loss(model, batch, step_rng)
        handle = core.blocks[1].mlp.fc2.register_forward_hook(lambda module, given, out: out * math.inf)
        try:
            return super().loss(model, batch, step_rng)
        finally:
            handle.remove()


def kept(run):
    return sorted(int(name.rpartition("-")[2]) for name in run.join("bad_steps").list_folders())


def test_a_bad_step_leaves_what_it_was_made_of(run):
    store = tiny_store()
    trainer = tiny_trainer(run, objective=Exploding({2, 3, 5}, math.nan), loop=EACH, store=store)
    before = []
    step = trainer.step

    def watched(model, number, parts):
        if number == 2:
            before.append({name: value.clone() for name, value in trainer.model.state_dict().items()})
        step(model, number, parts)

    trainer.step = watched
    trainer.train()
    assert kept(run) == [3, 6]  # the first of each in a row, as numbers of steps
    place = run.join("bad_steps", "step-000000003")
    about = json.loads(place.read("step.json"))
    assert about["samples"] == store.step_rows(16, 0, 2).tolist()
    assert (about["step"], about["seed"], about["world_size"], about["global_batch_size"]) == (3, 0, 1, 16)
    weights = load_weights(place.read("model.safetensors"))
    assert weights.keys() == before[0].keys()
    assert all(torch.equal(weights[name], before[0][name]) for name in weights)


def test_the_keys_of_the_samples_are_those_of_the_dataset(run, tmp_path):
    from seit_ray.batches.store import TokenStore
    from seit_ray.batches.stream import TokenStream
    from seit_ray.shards import TokenDataset

    dataset = TokenDataset(write_dataset(tmp_path / "tokens", sizes={"train": 64}))
    for store in (
        TokenStore.read(dataset, "train", need_labels=True),
        TokenStream(dataset, "train", memory_bytes=1, need_labels=True),
    ):
        rows = store.step_rows(16, 0, 0)
        assert store.keys(rows) == [f"image-{row:06d}.jpg" for row in rows]
    store = TokenStore.read(dataset, "train", need_labels=True)
    tiny_trainer(run, objective=Exploding({0}, math.nan), loop=EACH, store=store).train()
    about = json.loads(run.read("bad_steps/step-000000001/step.json"))
    assert about["keys"] == [f"image-{row:06d}.jpg" for row in about["samples"]]


def test_the_newest_few_are_kept(run):
    tiny_trainer(run, objective=Exploding({0, 2, 4, 6}, math.nan), loop=EACH).train()
    assert kept(run) == [3, 5, 7]
    assert MOST_KEPT == 3


@pytest.mark.parametrize("world_size", [1, 2])
def test_a_step_again_says_where_it_breaks(run, world_size):
    """Of two ranks, whose part of the batch each is replayed in turn."""
    store = tiny_store(64)
    objective = BadSample(store, 17)
    trainer = tiny_trainer(run, objective=objective, loop={**EACH, "epochs": 1}, store=store)
    trainer.train()
    (step,) = kept(run)
    name = f"bad_steps/step-{step:09d}/step.json"
    run.write(name, json.dumps({**json.loads(run.read(name)), "world_size": world_size}).encode())
    before = {entry.name: run.read(entry.name) for entry in run.list()}
    again = tiny_trainer(run, tiny_classifier(seed=7), objective=BadSample(store, 17), store=store)
    found = replay_step(again, step)
    assert found["step"] == step
    assert not math.isfinite(found["train_loss"])
    assert len(found["losses"]) == world_size
    assert found["modules"][0].startswith("blocks.1.mlp")
    assert "patch_embed.proj.weight" in found["parameters"]
    assert {entry.name: run.read(entry.name) for entry in run.list()} == before


def test_a_replay_is_the_step_itself(run):
    """Made finite, its loss and gradients are those that the step had."""
    settings = {"loop": {**EACH, "epochs": 2}, "store": tiny_store(64)}
    trainer = tiny_trainer(run, tiny_classifier(dropout=0.3), objective=Exploding({4}, math.nan), **settings)
    trainer.train()
    clean = tiny_trainer(Folder(run.uri + "-clean"), tiny_classifier(dropout=0.3), **settings)
    for step in range(4):
        take_step(clean, step)
    clean.window.sums.clear()
    take_step(clean, 4)
    again = tiny_trainer(run, tiny_classifier(seed=7, dropout=0.3), **settings)
    found = replay_step(again, 5)
    assert found["train_loss"] == pytest.approx(clean.window.sums["loss"].item(), rel=1e-6)
    assert found["train_grad_norm"] == pytest.approx(clean.window.sums["grad_norm"].item(), rel=1e-5)
    assert (found["modules"], found["parameters"], found["keys"]) == ([], [], [])


def test_a_step_that_is_not_kept_is_named(run):
    trainer = tiny_trainer(run, objective=Exploding({1}, math.nan), loop=EACH)
    trainer.train()
    with pytest.raises(ValueError, match=r"replay 4 of .*; expected a step that was not finite and is kept: 2; name"):
        replay_step(trainer, 4)


def test_where_flags_come_late_the_weights_before_are_followed_on_the_device(run):
    """As on a GPU: the flags of a step are read when two more have been taken."""
    model, store = tiny_classifier(), tiny_store()
    settings = tiny_trainer(run, loop=EACH).settings
    late = BadSteps(model, settings, World(0, 1, CPU.device), lag=2)
    states = follow(late, model, bad=(0.0, 1.0, 2.0, 0.0, 0.0))
    late.heed([Flags(2, 1, False, False)], store, run, 6)
    weights = load_weights(run.read("bad_steps/step-000000002/model.safetensors"))
    assert all(torch.equal(weights[name], states[1][name]) for name in weights)


def follow(late, model, bad):
    """The states behind steps 1, 2, ... of which so many were bad in a row; flags are not read yet."""
    states = []
    for step, in_a_row in enumerate(bad, 1):
        late.remember(step, torch.tensor(in_a_row))
        states.append({name: value.clone() for name, value in model.state_dict().items()})
        with torch.no_grad():
            model.head.bias.add_(1.0)
    return states


@pytest.mark.parametrize("first", [1, 2, 3, 4])
def test_a_bad_step_between_a_bad_one_and_its_flags_takes_nothing_from_it(run, first):
    """Bad, good, bad: the flags of the first are read behind the third, and both are kept as they were."""
    model, store = tiny_classifier(), tiny_store()
    late = BadSteps(model, tiny_trainer(run, loop=EACH).settings, World(0, 1, CPU.device), lag=2)
    states = follow(late, model, bad=(0.0,) * (first - 1) + (1.0, 0.0, 1.0))
    for step in (first, first + 2):
        late.heed([Flags(step, 1, False, False)], store, run, 6)
        weights = load_weights(run.read(f"bad_steps/step-{step:09d}/model.safetensors"))
        assert all(torch.equal(weights[name], states[step - 1][name]) for name in weights)


def morphed_trainer(run, explode=(), seed=0):
    """Masked modelling whose targets are its moving average's features, which has a loss of its own."""
    objective = Morphed(MTMObjective(), Morphing(AverageTarget(SIZE.width), patch_grid=(SIDE, SIDE)), set(explode))
    model = tiny_masked(seed=seed, morph_dim=SIZE.width)
    settings = {"loop": {**EACH, "epochs": 2, "ema_decay": 0.5}, "optimizer": {"warmup_epochs": 0, "layer_decay": 1.0}}
    return tiny_trainer(run, model, objective=objective, store=tiny_store(64), **settings)


class Morphed(MorphedMTMObjective):
    """The loss is NaN in some steps."""

    def __init__(self, mtm, morphing, explode):
        super().__init__(mtm, morphing)
        self.explode = explode

    def loss(self, model, batch, step_rng):
        loss, metrics = super().loss(model, batch, step_rng)
        return loss * (math.nan if step_rng.step in self.explode else 1.0), metrics


@pytest.mark.parametrize("lag", [0, 2])
def test_a_replay_aims_at_the_average_that_the_step_aimed_at(run, lag):
    """Which is neither that of a new model nor that of the end of the run."""
    trainer = morphed_trainer(run, explode=[2])
    trainer.bad_steps = BadSteps(trainer.model, trainer.settings, CPU, lag, trainer.ema)
    trainer.agreement.lag = lag
    trainer.train()
    clean = morphed_trainer(Folder(run.uri + "-clean"))
    for step in range(2):
        take_step(clean, step)
    clean.window.sums.clear()
    take_step(clean, 2)
    found = replay_step(morphed_trainer(run, seed=7), 3)
    assert found["train_loss"] == pytest.approx(clean.window.sums["loss"].item(), rel=1e-6)
    assert found["train_grad_norm"] == pytest.approx(clean.window.sums["grad_norm"].item(), rel=1e-5)
    run.delete("bad_steps/step-000000003/average.safetensors")
    with pytest.raises(ValueError, match=r"replay 3 without the moving average that it took its targets from; exp"):
        replay_step(morphed_trainer(run, seed=7), 3)


@pytest.mark.parametrize("stop", [None, 4])
def test_where_flags_come_late_the_last_ones_are_heeded_too(run, stop):
    """Those of the last steps of a run, and of the steps behind the one that is asked to stop."""
    bad = [5, 7] if stop is None else [5]
    trainer = tiny_trainer(run, objective=Exploding(set(bad), math.nan), loop={**EACH, "epochs": 2})
    trainer.bad_steps = BadSteps(trainer.model, trainer.settings, CPU, 2)
    trainer.agreement.lag = 2
    step = trainer.step

    def stopping(model, number, parts):
        trainer.requests.stop = number == stop
        step(model, number, parts)

    trainer.step = stopping
    with contextlib.nullcontext() if stop is None else pytest.raises(Stopped):
        trainer.train()
    assert kept(run) == [number + 1 for number in bad]


def test_an_average_that_no_target_is_taken_from_is_not_kept(run):
    tiny_trainer(run, objective=Exploding({1}, math.nan), loop={**EACH, "ema_decay": 0.5}).train()
    assert not run.exists("bad_steps/step-000000002/average.safetensors")


def test_bad_steps_in_a_row_are_counted_across_a_restart(run):
    """Three in a row, of which the run is killed behind the second."""
    from tests.training.test_resume import Interrupted, stop_at

    loop = {"log_every_steps": 1, "max_skipped_steps": 3, "checkpoint_every_steps": 1}
    objective = Exploding({4, 5, 6}, math.nan)
    with pytest.raises(Interrupted):
        tiny_trainer(run, objective=objective, loop=loop, on_progress=stop_at(6)).train()
    with pytest.raises(ValueError, match=r"not finite in 3 steps in a row, up to step 7 .* with replay=5 shows"):
        tiny_trainer(run, objective=objective, loop=loop).train()
    assert [entry["step"] for entry in json.loads(run.read("skipped_steps.json"))] == [5, 6, 7]


def test_an_average_does_not_move_on_a_bad_step(run):
    trainer = tiny_trainer(run, loop={"ema_decay": 0.5}, optimizer={"warmup_epochs": 0})
    take_step(trainer, 0)
    before = {name: value.clone() for name, value in trainer.ema.items()}
    trainer.objective = Exploding({1}, math.nan)
    take_step(trainer, 1)
    assert all(torch.equal(trainer.ema[name], before[name]) for name in before)
    trainer.objective = SupervisedObjective()
    take_step(trainer, 2)
    assert not torch.equal(trainer.ema["head.weight"], before["head.weight"])
