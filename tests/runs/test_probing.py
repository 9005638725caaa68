"""When probes are due, and what they decide of a run."""

import itertools

import pytest
import torch

from seit_ray.batches.sampler import num_steps
from seit_ray.runs.inputs import seen_train, token_inputs
from seit_ray.runs.probing import deciding_probes, probe_is_due
from seit_ray.runs.settings import ProbeSettings
from seit_ray.training.settings import LoopSettings
from tests.tiny_dataset import write_dataset

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


def loop(**more):
    return LoopSettings(**{"epochs": 100, "global_batch_size": 2, "trackers": (), **more})


@pytest.mark.parametrize(
    ("every", "interval", "device", "due"),
    [
        (5, None, CPU, [5, 10, 15, 20]),
        (4, 10, CPU, [10, 20]),  # at the first evaluation since
        (20, 10, CPU, [20]),
        (2, None, GPU, [5, 10, 15, 20]),  # evaluated every five epochs there
        (0, None, CPU, []),
    ],
)
def test_probes_are_due_at_the_first_evaluation_of_each_interval(every, interval, device, due):
    settings = loop(eval_every_epochs=interval)
    evaluated = [epoch for epoch in range(1, 21) if epoch % settings.eval_interval(device) == 0]
    probe, steps = ProbeSettings(every_epochs=every), 8  # of an epoch
    found = [epoch for epoch in evaluated if probe_is_due(probe, settings, device, epoch * steps, 16)]
    assert found == due
    assert probe_is_due(probe, settings, device, 100 * steps, 16) == bool(every)  # the last of the run


@pytest.mark.parametrize(
    ("num_samples", "batch", "every", "epochs"),
    [(1000, 768, 10, 50), (100, 80, 2, 20), (100, 80, 5, 20), (100, 250, 3, 20), (1000, 64, 3, 20)],
)
def test_probes_are_as_many_as_the_intervals_however_large_a_batch_is(num_samples, batch, every, epochs):
    settings = loop(epochs=epochs, global_batch_size=batch)
    steps = num_steps(num_samples, batch, epochs)
    evaluated = [done for done in range(1, steps + 1) if settings.ends_epochs(done, 1, num_samples)]
    for before, done in itertools.pairwise([0, *evaluated]):
        assert settings.evaluated_before(done, num_samples, CPU) == before
    probe = ProbeSettings(every_epochs=every)
    due = [done for done in evaluated if probe_is_due(probe, settings, CPU, done, num_samples)]
    first = [-(-multiple * num_samples // batch) for multiple in range(every, epochs + 1, every)]
    assert due == sorted({done for done in first if done < steps} | ({steps} if steps in evaluated else set()))


@pytest.mark.parametrize(("num_samples", "batch"), [(64, 16), (1000, 64), (50_000, 4096)])
def test_the_last_evaluation_of_a_run_whose_steps_do_not_fill_its_epochs_probes(num_samples, batch):
    settings = loop(epochs=7, global_batch_size=batch)
    last, probe = num_steps(num_samples, batch, 7), ProbeSettings(every_epochs=50)
    assert probe_is_due(probe, settings, CPU, last, num_samples)
    assert not probe_is_due(probe, settings, CPU, last - 1, num_samples)


@pytest.mark.parametrize(
    ("more", "device", "interval"),
    [
        ({}, CPU, 1),
        ({}, GPU, 5),
        ({"epochs": 60}, GPU, 3),
        ({"epochs": 10}, GPU, 1),
        ({"keep_best": "val_top1"}, GPU, 1),
        ({"keep_best": "val_top1", "eval_every_epochs": 7}, GPU, 7),
        ({"eval_every_epochs": 2}, CPU, 2),
    ],
)
def test_a_gpu_is_evaluated_on_less_often(more, device, interval):
    assert loop(**more).eval_interval(device) == interval


def test_probes_decide_nothing_but_the_best_weights():
    probe = ProbeSettings(every_epochs=2)
    assert deciding_probes(probe, loop()) == {}
    assert deciding_probes(probe, loop(keep_best="val_loss")) == {}
    found = deciding_probes(probe, loop(keep_best="ema_probe_knn_top1"))
    assert found["probe.every_epochs"] == 2
    assert found["probe.methods"] == ["linear", "knn", "rankme"]  # as JSON gives it back


def test_the_train_split_is_seen_through_its_middle_without_a_copy(tmp_path):
    folder = write_dataset(tmp_path / "tokens", side=6)
    whole = token_inputs(folder, need_labels=True, grid_side=None)
    assert seen_train(whole) is whole.train
    inputs = token_inputs(folder, need_labels=True, grid_side=4)
    shown = seen_train(inputs)
    assert shown.store is inputs.train
    found = shown.batch(slice(3, 9), CPU).inputs
    assert found.equal(inputs.train.cropped((6, 6), (4, 4)).batch(slice(3, 9), CPU).inputs)
