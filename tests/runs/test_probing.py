"""When probes are due, and what they decide of a run."""

import pytest
import torch

from seit_ray.batches.sampler import last_epoch, num_steps
from seit_ray.runs.probing import deciding_probes, probe_is_due
from seit_ray.runs.settings import ProbeSettings
from seit_ray.training.settings import LoopSettings

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
    probe = ProbeSettings(every_epochs=every)
    assert [epoch for epoch in evaluated if probe_is_due(probe, settings, device, epoch, 100.0)] == due
    assert probe_is_due(probe, settings, device, 100.0, 100.0) == bool(every)  # the last of the run


@pytest.mark.parametrize(("num_samples", "batch"), [(64, 16), (1000, 64), (50_000, 4096)])
def test_the_last_evaluation_of_a_run_whose_steps_do_not_fill_its_epochs_probes(num_samples, batch):
    settings = loop(epochs=7, global_batch_size=batch)
    last = last_epoch(num_samples, batch, 7)
    assert last == round(num_steps(num_samples, batch, 7) * batch / num_samples, 4) <= 7
    probe = ProbeSettings(every_epochs=50)
    assert probe_is_due(probe, settings, CPU, last, last)
    assert not probe_is_due(probe, settings, CPU, round(last - batch / num_samples, 4), last)


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
