"""However many processes train a tokenizer, its codebook is one."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from seit_ray.models.weights import load_weights
from seit_ray.storage import Folder
from tests.tiny_trainers import comparable
from tests.tokenizers.vit_vqgan.workers import main as train_both
from tests.tokenizers.vit_vqgan.workers import steady_metrics
from tests.warm import processes as warm

ROOT = Path(__file__).parents[3]


def test_two_processes_keep_one_codebook(tmp_path):
    """This process is the first of the two. Codes are revived on the way."""
    command = [sys.executable, "-m", "tests.tokenizers.vit_vqgan.workers", str(tmp_path / "two"), "2", "1"]
    with warm.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as second:
        train_both(tmp_path / "two", 2, 0)
        errors = second.communicate(timeout=240)[1]
    assert second.returncode == 0, errors
    train_both(tmp_path / "one", 1, 0)
    for update in ("gradient", "ema", "parts"):
        one, two = (Folder(tmp_path / name / update) for name in ("one", "two"))
        first, other = (load_weights(two.read(f"rank-{rank}.safetensors")) for rank in (0, 1))
        assert all(torch.equal(first[name], other[name]) for name in first)
        if update == "parts":  # other rows make up the micro-batches of one process
            continue
        alone = load_weights(one.read("rank-0.safetensors"))
        assert alone.keys() == first.keys()
        assert torch.equal(alone["code_uses"], first["code_uses"])
        for name in (n for n in alone if not n.startswith("discriminator.")):
            torch.testing.assert_close(first[name], alone[name], atol=1e-3, rtol=1e-2)
        for record, other_record in zip(steady_metrics(one), steady_metrics(two), strict=True):
            assert other_record == pytest.approx(record, rel=1e-3, abs=1e-3)
        usage = [record["train_code_usage"] for record in comparable(two)]
        assert usage[4] > usage[3]  # codes were revived in the fifth step
