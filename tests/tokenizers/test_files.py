"""Tokenizers in folders: round trip, and every way in which the files can be wrong."""

import contextlib
import json
import math

import pytest
import torch

from seit_ray.storage import Folder
from seit_ray.tokenizers.centroid import CentroidTokenizer
from seit_ray.tokenizers.contract import fingerprint
from seit_ray.tokenizers.files import load_tokenizer, save_tokenizer

REPORT = {"objective": [0.5, 0.25], "psnr_db": math.inf, "images": 3}


@pytest.fixture
def tokenizer():
    codebook = torch.rand(5, 12, generator=torch.Generator().manual_seed(0))
    return CentroidTokenizer(codebook, image_size=6, patch_size=2, resize="crop")


@pytest.fixture
def saved(tmp_path, tokenizer):
    save_tokenizer(tokenizer, Folder(tmp_path), REPORT)
    return tmp_path


def refusal(path):
    """The one line with which a folder is refused."""
    with pytest.raises(ValueError, match=r"\S") as caught:
        load_tokenizer(Folder(path))
    text = str(caught.value)
    assert "\n" not in text
    assert str(path) in text
    return text


def rewrite(path, **changes):
    """Change keys of tokenizer.json, as somebody with an editor would."""
    about = json.loads((path / "tokenizer.json").read_text()) | changes
    (path / "tokenizer.json").write_text(json.dumps(about))


def test_round_trip(tmp_path, tokenizer):
    mark = save_tokenizer(tokenizer, Folder(tmp_path), REPORT)
    found, about = load_tokenizer(Folder(tmp_path))
    images = torch.randint(256, (4, 3, 6, 6), dtype=torch.uint8)
    assert mark == about["fingerprint"] == fingerprint(tokenizer) == fingerprint(found)
    assert torch.equal(found.codebook, tokenizer.codebook)
    assert torch.equal(found.encode(images), tokenizer.encode(images))
    assert (found.grid, found.image_size, found.resize) == ((3, 3), 6, "crop")
    assert (about["family"], about["grid"], about["codebook_size"]) == ("centroid", [3, 3], 5)
    assert about["report"] == REPORT


def test_saving_twice_gives_the_same_bytes(tmp_path, tokenizer):
    for name in ("a", "b"):
        save_tokenizer(tokenizer, Folder(tmp_path / name), REPORT)
    for file in ("tokenizer.json", "tokenizer.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_fingerprint_does_not_depend_on_the_report(tmp_path, tokenizer):
    marks = {save_tokenizer(tokenizer, Folder(tmp_path), report) for report in (None, REPORT)}
    assert len(marks) == 1


def test_nothing_there(tmp_path):
    assert "run fit_tokenizer first" in refusal(tmp_path)


def test_weights_missing(saved):
    (saved / "tokenizer.safetensors").unlink()
    assert "tokenizer.safetensors does not exist" in refusal(saved)


@pytest.mark.parametrize("garbage", [b"", b"\x00\xff\xfe", b"[1]", b"{}", b"null", b'{"family": "centroid"}'])
def test_garbage_in_the_marker(saved, garbage):
    (saved / "tokenizer.json").write_bytes(garbage)
    assert "cannot be read" in refusal(saved)


@pytest.mark.parametrize("garbage", [b"", b"PK\x03\x04", b"\xff" * 64, b"\x02\x00\x00\x00\x00\x00\x00\x00{}"])
def test_garbage_in_the_weights(saved, garbage):
    (saved / "tokenizer.safetensors").write_bytes(garbage)
    assert "cannot be read" in refusal(saved)


@pytest.mark.parametrize("config", [{}, {"image_size": 6}, [6, 2], {"image_size": 7, "patch_size": 2}, None])
def test_config_that_builds_nothing(saved, config):
    rewrite(saved, config=config)
    assert "cannot be read" in refusal(saved)


def test_unknown_family_names_the_known_ones(saved):
    rewrite(saved, family="wavelets")
    assert "family 'wavelets'" in refusal(saved)
    assert "centroid" in refusal(saved)
    rewrite(saved, family=["centroid"])
    assert "expected one of" in refusal(saved)


def test_newer_format_says_so(saved):
    rewrite(saved, format_version=2, config={"patch": 2})
    assert "format version 2; expected 1; update seit_ray" in refusal(saved)


@pytest.mark.parametrize(
    "changes",
    [
        {"config": {"image_size": 8, "patch_size": 2, "resize": "crop"}},
        {"config": {"image_size": 6, "patch_size": 2, "resize": "squash"}},
        {"fingerprint": "0" * 16},
        {"grid": [2, 2]},
        {"codebook_size": 6},
        {"report": {}},
    ],
)
def test_altered_marker(saved, changes):
    rewrite(saved, **changes)
    assert "altered" in refusal(saved)


def test_weights_of_another_tokenizer(saved, tmp_path_factory, tokenizer):
    other = tmp_path_factory.mktemp("other")
    tokenizer.codebook[0, 0] += 0.5
    save_tokenizer(tokenizer, Folder(other))
    (saved / "tokenizer.safetensors").write_bytes((other / "tokenizer.safetensors").read_bytes())
    assert fingerprint(tokenizer) in refusal(saved)


def test_every_flipped_byte_is_found(saved):
    for name in ("tokenizer.json", "tokenizer.safetensors"):
        path = saved / name
        data = path.read_bytes()
        content = load_tokenizer(Folder(saved))[1]
        for at in range(len(data)):
            path.write_bytes(data[:at] + bytes([data[at] ^ 0x01]) + data[at + 1 :])
            if data[at : at + 1].isspace():  # between the values, where it may change nothing
                with contextlib.suppress(ValueError):
                    assert load_tokenizer(Folder(saved))[1] == content
            else:
                refusal(saved)
        path.write_bytes(data)
