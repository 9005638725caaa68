"""Speed: FLOPs, peak rates, shares of time, durations."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from seit_ray.objectives import MTMObjective
from seit_ray.progress import duration
from seit_ray.training import throughput
from seit_ray.training.metrics import describe, read_metrics
from seit_ray.training.throughput import SPEED, FlopCounter, Throughput, matmul_rate, peak_flops
from tests.tiny_trainers import CPU, tiny_classifier, tiny_masked, tiny_trainer


def test_products_are_counted_forward_and_backward():
    layer = torch.nn.Linear(32, 64)
    with FlopCounter() as counted:
        layer(torch.ones(8, 32, requires_grad=True)).sum().backward()
    assert counted.flops == 3 * 2 * 8 * 32 * 64


@pytest.mark.parametrize("model", [tiny_masked, tiny_classifier])
def test_torch_counts_as_much(run, model):
    """FlopCounterMode knows modules and takes what is composed apart; the sum is the same."""
    objective = MTMObjective() if model is tiny_masked else None
    trainer = tiny_trainer(run, model(), **({"objective": objective} if objective else {}))
    counted = []
    for mode in (FlopCounter(), FlopCounterMode(display=False)):
        with mode:
            trainer.objective.loss(*first_arguments(trainer))[0].backward()
        counted.append(mode.flops if isinstance(mode, FlopCounter) else mode.get_total_flops())
    assert counted[0] == counted[1] > 0


def test_counting_changes_no_result(run):
    trainer = tiny_trainer(run, tiny_masked(), objective=MTMObjective())
    results = []
    for counts in (False, True):
        if counts:
            with FlopCounter():
                loss, _ = trainer.objective.loss(*first_arguments(trainer))
        else:
            loss, _ = trainer.objective.loss(*first_arguments(trainer))
        results.append(loss.item())
    assert results[0] == results[1]


def first_arguments(trainer):
    """What the objective gets in the first step."""
    from seit_ray.augment.random import StepRandom

    ((span, batch),) = trainer.host_parts(0)
    trainer.model.eval()
    return trainer.model, batch.to(CPU.device), StepRandom(0, 0, span, 16)


def test_the_peak_of_a_cpu_is_measured():
    matmul_rate.cache_clear()
    rate = peak_flops(CPU.device, "fp32")
    assert rate > 1e8
    assert peak_flops(CPU.device, "fp32") == rate  # once


def test_a_cpu_that_is_slow_in_a_precision_is_measured_by_small_products(monkeypatch):
    sides = []

    def seconds_of(work):
        sides.append(work().shape[0])
        return sides[-1] ** 3 * 1e-9  # 2 GFLOP/s, less than CPUs without an instruction for it do in bf16

    monkeypatch.setattr(throughput, "seconds_of", seconds_of)
    matmul_rate.cache_clear()
    assert matmul_rate("bf16", 1) == pytest.approx(2e9)
    assert max(sides) == 256
    matmul_rate.cache_clear()


@pytest.mark.parametrize(
    ("name", "precision", "tera"),
    [
        ("NVIDIA H200", "bf16", 989),
        ("NVIDIA H100 PCIe", "bf16", 756),
        ("NVIDIA H100 80GB HBM3", "tf32", 494),
        ("NVIDIA A100-SXM4-80GB", "fp32", 19.5),
        ("NVIDIA A10G", "bf16", 70),
        ("NVIDIA L40S", "bf16", 362),
        ("NVIDIA L4", "bf16", 121),
        ("NVIDIA L40", "bf16", 181),
        ("NVIDIA RTX A1000 Laptop GPU", "bf16", None),
        ("Tesla T4", "bf16", None),
        ("Some Other GPU", "bf16", None),
    ],
)
def test_peaks_by_the_name_of_a_gpu(monkeypatch, name, precision, tera):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    assert peak_flops(torch.device("cuda", 0), precision) == (None if tera is None else tera * 1e12)


def test_figures_of_a_window(monkeypatch):
    clock = iter([100.0, 104.0])
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(throughput, "peak_flops", lambda device, precision: 1e9)
    speed = object.__new__(Throughput)
    speed.world, speed.peak, speed.flops_per_sample = CPU, 1e9, 1e6
    speed.restart(wait_s=2.0)
    figures = speed.record(samples=400, wait_s=3.0)
    assert figures.keys() == set(SPEED)
    assert (figures["samples_per_s"], figures["data_wait_share"], figures["mfu"]) == (100.0, 0.25, 0.1)
    assert figures["memory_gib"] > 0


def test_every_record_has_its_speed(run):
    tiny_trainer(run).train()
    for record in read_metrics(run):
        assert record["samples_per_s"] > 0
        assert 0 <= record["data_wait_share"] <= 1
        assert 0 < record["mfu"] < 1
        assert record["memory_gib"] > 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3.4, "3 s"), (89, "89 s"), (91, "2 min"), (7000, "117 min"), (7500, "2 h 05 min"), (200_000, "2 d 08 h")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_progress_says_how_long_it_will_take():
    metrics = {"train_loss": 1.5, "samples_per_s": 812.3}
    assert describe(metrics, 7500) == "loss 1.500, 812 samples/s, 2 h 05 min left"
    assert describe({**metrics, "val_top1": 0.5}, 0) == "loss 1.500, val top-1 50.0%, 812 samples/s"


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch's own, which it hides itself
@pytest.mark.parametrize("masked", [False, True])
def test_compiled_models_train_alike(tmp_path, monkeypatch, masked):
    from functools import partialmethod

    from seit_ray.storage import Folder
    from seit_ray.training.compiling import blocks_of
    from tests.tiny_trainers import losses, tiny_classifier

    monkeypatch.setattr(torch.nn.Module, "compile", partialmethod(torch.nn.Module.compile, backend="eager"))
    found = []
    for compiles in (False, True):
        run = Folder(tmp_path / str(compiles))
        model, more = (tiny_masked(), {"objective": MTMObjective()}) if masked else (tiny_classifier(), {})
        trainer = tiny_trainer(run, model, loop={"compile": compiles, "log_every_steps": 1}, **more)
        trainer.train()
        assert all((block._compiled_call_impl is not None) == compiles for block in blocks_of(trainer.model))
        found.append(losses(run))
    assert found[1] == pytest.approx(found[0], abs=1e-5)


@pytest.mark.parametrize(("tf32", "precision", "expected"), [(True, "fp32", "tf32"), (False, "fp32", "fp32")])
def test_tf32_is_a_setting_of_gpus(run, monkeypatch, tf32, precision, expected):
    said = []
    monkeypatch.setattr(torch, "set_float32_matmul_precision", said.append)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    settings = tiny_trainer(run, loop={"tf32": tf32, "precision": precision}).settings
    assert settings.precision_on(torch.device("cuda")) == expected
    assert said == ["high" if tf32 else "highest"]
    assert settings.precision_on(CPU.device) == "fp32"
    assert len(said) == 1
