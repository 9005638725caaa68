"""The numbers of a training: which precision a device gets."""

import pytest
import torch

from seit_ray.training.settings import LoopSettings, OptimizerSettings

GPU, CPU = torch.device("cuda"), torch.device("cpu")


@pytest.fixture
def chip(monkeypatch):
    """A GPU with bf16 or without, and what is said to torch."""

    def make(*, has_bf16):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: has_bf16)
        monkeypatch.setattr(torch, "set_float32_matmul_precision", said.append)
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)  # as torch has it

    said = []
    make.said = said
    return make


@pytest.mark.parametrize(
    ("precision", "has_bf16", "tf32", "expected"),
    [
        ("auto", True, True, "bf16"),
        ("auto", False, True, "tf32"),  # a T4 or V100, which emulates bf16
        ("auto", False, False, "fp32"),
        ("bf16", False, True, "bf16"),  # as asked for
        ("fp32", True, True, "tf32"),
        ("fp32", True, False, "fp32"),
    ],
)
def test_bf16_is_taken_where_the_chip_has_it(chip, precision, has_bf16, tf32, expected):
    chip(has_bf16=has_bf16)
    loop = LoopSettings(epochs=1, global_batch_size=2, precision=precision, tf32=tf32)
    assert loop.precision_on(GPU) == expected
    assert chip.said == {"tf32": ["high"], "fp32": ["highest"], "bf16": []}[expected]
    assert torch.backends.cudnn.allow_tf32 == (expected != "fp32")  # of convolutions
    assert loop.precision_on(CPU) == ("bf16" if precision == "bf16" else "fp32")


def test_a_warm_up_ends_before_the_training():
    OptimizerSettings(warmup_epochs=4.5).check_schedule(5, 256)
    with pytest.raises(ValueError, match=r"warmup_epochs 5 of loop.epochs 5; expected"):
        OptimizerSettings(warmup_epochs=5).check_schedule(5, 256)


def test_no_rate_lies_above_the_peak():
    OptimizerSettings(warmup_epochs=1, lr=0.1, min_lr=0.1, warmup_lr=0.1).check_schedule(5, 256)
    OptimizerSettings(warmup_epochs=0, lr=0.1, warmup_lr=0.2).check_schedule(5, 256)  # without a warm-up, unread
    with pytest.raises(ValueError, match=r"min_lr 0.2 above the peak rate 0.1; .* raise optimizer.lr"):
        OptimizerSettings(warmup_epochs=1, lr=0.1, min_lr=0.2).check_schedule(5, 256)
    with pytest.raises(ValueError, match=r"warmup_lr 0.2 above the peak rate 0.15; .* raise optimizer.blr"):
        OptimizerSettings(warmup_epochs=1, blr=0.3, warmup_lr=0.2).check_schedule(5, 128)
