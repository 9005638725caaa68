"""Tensors from files of torch and safetensors, and nothing that runs."""

import io
import os
import pickle
import re

import pytest
import torch
from safetensors import torch as safetensors

from seit_ray.storage.torch_file import read_torch


def saved(value, **settings):
    """What torch.save writes."""
    file = io.BytesIO()
    torch.save(value, file, **settings)
    return file.getvalue()


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_and_containers_of_them(zipped):
    value = {"model": {"a": torch.arange(6.0).reshape(2, 3)}, "epoch": 3}
    found = read_torch(saved(value, _use_new_zipfile_serialization=zipped))
    assert torch.equal(found["model"]["a"], value["model"]["a"])
    assert found["epoch"] == 3


def test_safetensors():
    value = {"a": torch.arange(6.0)}
    assert torch.equal(read_torch(safetensors.save(value))["a"], value["a"])


class Evil:
    """Pickles as a call that leaves a folder behind."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_nothing_is_run(tmp_path):
    trap = tmp_path / "trap"
    whole = saved(torch.nn.Linear(2, 2))
    for data in (saved(Evil(trap)), saved({"model": Evil(trap)}), pickle.dumps(Evil(trap)), whole):
        with pytest.raises(ValueError, match=r"expected tensors by torch\.save or safetensors, no pickled module"):
            read_torch(data)
    assert not trap.exists()
    pickle.loads(pickle.dumps(Evil(trap)))
    assert trap.exists()  # so the trap does spring


@pytest.mark.parametrize("data", [b"", b"text", b"PK\x03\x04", b"\x80\x02", bytes(8) + b"{", bytes(40)])
def test_other_files(data):
    with pytest.raises(ValueError, match=rf"^torch file of {len(data)} bytes that cannot be read [^\n]*$"):
        read_torch(data)


def test_files_that_are_cut():
    for data in (saved(torch.zeros(9)), safetensors.save({"a": torch.zeros(9)})):
        for stop in range(0, len(data) - 1, 7):
            with pytest.raises(ValueError, match="cannot be read"):
                read_torch(data[:stop])


def test_reasons_are_in_words_of_our_own():
    """torch's come with advice on how to run what is pickled, and with colours."""
    for data, reason in (
        (saved(torch.nn.Linear(2, 2)), "it holds pickled objects"),
        (b"text", "it is no torch file, or a damaged one"),
    ):
        with pytest.raises(ValueError, match=re.escape(f"cannot be read ({reason});")) as caught:
            read_torch(data)
        assert "\x1b" not in str(caught.value)
        assert "weights_only" not in str(caught.value)
