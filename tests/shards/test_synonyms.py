"""Synonyms in a dataset's folder and in the published form."""

import json

import pytest
import torch

from seit_ray.augment.synonyms import nearest_codes
from seit_ray.shards.dataset_files import SYNONYMS
from seit_ray.shards.synonyms import encode_published, parse_published, read_synonyms, write_synonyms
from seit_ray.storage import Folder
from tests.shards.published_files import refusal, ring_synonyms


def published(**changes):
    """Bytes of a table of four codes; None leaves a code out."""
    table = {"0": [1, 2], "1": [2, 3], "2": [3, 0], "3": [0, 1]} | changes
    return json.dumps({code: row for code, row in table.items() if row is not None}).encode()


def test_round_trip_in_a_folder(tmp_path):
    codebook = torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
    table = nearest_codes(codebook, 4)
    write_synonyms(Folder(tmp_path), table)
    found = read_synonyms(Folder(tmp_path))
    assert found.dtype == torch.int64
    assert torch.equal(found, table)
    assert (tmp_path / "tokenizer" / "synonyms.json").exists()


def test_a_dataset_without_synonyms(tmp_path):
    assert read_synonyms(Folder(tmp_path)) is None


@pytest.mark.parametrize("table", [torch.tensor([[1], [1]]), torch.tensor([[1], [2]]), torch.tensor([[-1], [0]])])
def test_a_wrong_table_is_not_written(tmp_path, table):
    assert "expected another code, from 0 to 1" in refusal(write_synonyms, Folder(tmp_path), table)
    assert read_synonyms(Folder(tmp_path)) is None


def test_every_flipped_byte_of_the_table_is_found(tmp_path):
    write_synonyms(Folder(tmp_path), ring_synonyms(5, 2))
    path = tmp_path / SYNONYMS
    data = path.read_bytes()
    found = 0
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        if not data[at : at + 1].isspace():
            assert f"{SYNONYMS} cannot be read" in refusal(read_synonyms, Folder(tmp_path)), at
            found += 1
    assert found > 50


@pytest.mark.parametrize("garbage", [b"", b"[]", b"{}", b"null", b"\xff", b'{"synonyms": 3, "sha256": ""}'])
def test_garbage_for_a_table(tmp_path, garbage):
    Folder(tmp_path).write(SYNONYMS, garbage)
    assert "cannot be read" in refusal(read_synonyms, Folder(tmp_path))


def test_the_published_form():
    table = parse_published(published(), 4)
    assert table.tolist() == [[1, 2], [2, 3], [3, 0], [0, 1]]
    assert parse_published(encode_published(table), 4).tolist() == table.tolist()
    assert parse_published(published(), 4, 1).tolist() == [[1], [2], [3], [0]]


def test_codes_are_found_by_name_not_by_place():
    turned = dict(reversed(json.loads(published()).items()))
    assert parse_published(json.dumps(turned).encode(), 4).tolist() == [[1, 2], [2, 3], [3, 0], [0, 1]]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"2": None}, "synonyms of 3 codes, without 2; expected each of the 4 codes"),
        ({"4": [0, 1]}, "synonyms of 5 codes, with 4"),
        ({"01": [0, 1]}, "with 01"),
        ({"1": [2, 4]}, "synonym '4' of code 1; expected another code, from 0 to 3"),
        ({"1": [2, -1]}, "synonym '-1' of code 1"),
        ({"1": [2, 1]}, "synonym '1' of code 1"),
        ({"1": [2, 3.0]}, "synonym '3.0' of code 1"),
        ({"1": [2, True]}, "synonym 'True' of code 1"),
        ({"1": ["2", 3]}, "synonym '2' of code 1"),
        ({"1": [[2], 3]}, "of code 1"),
        ({"1": []}, "synonyms without a list of codes for every code"),
        ({"1": 2}, "synonyms without a list of codes for every code"),
        ({"1": [2]}, "synonyms of code 1: 1; expected 2, as many for every code; set num_synonyms to 1 or less"),
    ],
)
def test_published_tables_that_are_wrong(changes, text):
    assert text in refusal(parse_published, published(**changes), 4)


def test_rows_of_different_lengths_are_cut_when_asked():
    assert parse_published(published(**{"1": [2]}), 4, 1).tolist() == [[1], [2], [3], [0]]
    assert "synonyms of code 0: 2; expected 3" in refusal(parse_published, published(), 4, 3)


@pytest.mark.parametrize("garbage", [b"", b"[]", b"3", b"\xff", b"{", b"[" * 100_000])
def test_garbage_for_a_published_table(garbage):
    assert "expected a mapping" in refusal(parse_published, garbage, 4)
