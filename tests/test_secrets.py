"""Secrets reach the storage, and neither records nor errors nor the terminal."""

import json
import sys

import pytest

from seit_ray.config import Pretrain, fields, holds_secret, load, type_name
from seit_ray.storage import Folder
from seit_ray.verbs.command.arguments import VERBS
from seit_ray.verbs.command.record import begin_record, record_of

REQUIRED = ["dataset=tokens", "run=mtm"]
SECRETS = {
    "storage.access_key_id": "AKIAPLAIN",
    "storage.secret_access_key": "hunter2",
    "storage.session_token": "s3ss10n",
}


def test_secrets_reach_the_storage_and_nothing_else(tmp_path, monkeypatch):
    overrides = [f"{key}={value}" for key, value in SECRETS.items()]
    monkeypatch.setattr(sys, "argv", ["seit-ray", "pretrain", *REQUIRED, *overrides])
    found = load(Pretrain, [], [*REQUIRED, *overrides])
    options = found.storage.options()
    assert [options[key.rpartition(".")[2]] for key in SECRETS] == list(SECRETS.values())
    Folder(tmp_path, **options)  # takes them as they are
    begin_record(Folder(tmp_path), "pretrain", found)
    texts = [
        json.dumps(found.model_dump(mode="json")),
        found.model_dump_json(),
        repr(found),
        json.dumps(record_of("pretrain", found)),
        (tmp_path / "pretrain.run.json").read_text(),
    ]
    for text in texts:
        assert "secret_access_key" in text
        assert not [value for value in SECRETS.values() if value in text]


def test_a_section_with_secrets_is_not_recorded_in_clear(monkeypatch):
    section = "storage={access_key_id: AKIAPLAIN, secret_access_key: hunter2}"
    monkeypatch.setattr(sys, "argv", ["seit-ray", "pretrain", *REQUIRED, section, "loop.epochs=3"])
    record = record_of("pretrain", load(Pretrain, [], [*REQUIRED, section]))
    assert record["command"] == ["seit-ray", "pretrain", *REQUIRED, "storage=**********", "loop.epochs=3"]
    assert "hunter2" not in json.dumps(record)


@pytest.mark.parametrize(
    "text",
    ["storage.secret_access_key={a: 31337}", "storage.session_token=[31337]", "storage=31337", "storage=[31337"],
)
def test_errors_do_not_show_secrets(text):
    with pytest.raises(ValueError, match="storage") as caught:
        load(Pretrain, [], [*REQUIRED, text])
    assert "31337" not in str(caught.value)


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS.keys())
def test_secrets_are_the_same_three_keys_in_every_verb(verb):
    keys = dict(fields(verb))
    assert {key for key in keys if holds_secret(verb, key)} == set(SECRETS)
    assert {key for key, (kind, _, _) in keys.items() if type_name(kind) == "secret"} == set(SECRETS)
    assert holds_secret(verb, "storage")
    assert not holds_secret(verb, "storage.region")
    assert not holds_secret(verb, "stor")


def test_a_record_says_what_was_run(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["seit-ray", "pretrain", *REQUIRED])
    record = record_of("pretrain", load(Pretrain, [], REQUIRED))
    assert (record["verb"], record["command"]) == ("pretrain", ["seit-ray", "pretrain", *REQUIRED])
    assert record["config"]["loop"]["epochs"] == 400
    assert set(record["versions"]) >= {"python", "torch", "ray", "numpy"}
    assert record["versions"]["numpy"]
    assert json.loads(json.dumps(record)) == record
    assert load(Pretrain, [], [f"{key}={record['config'][key]}" for key in ("dataset", "run")])
