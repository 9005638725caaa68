"""seit-ray schema: JSON schemas that recipes keep to and mistakes do not."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from seit_ray.config import fields, holds_secret, load
from seit_ray.verbs.command.arguments import VERBS
from seit_ray.verbs.command.main import main
from seit_ray.verbs.schema import schema_of
from tests.verbs.command.test_main import mistake

CONFIGS = Path(__file__).parents[2] / "pipelines" / "configs"
RECIPES = sorted(file for file in CONFIGS.glob("*.yaml") if file.name != "prices.yaml")  # which is no recipe
EACH = pytest.mark.parametrize("verb", VERBS)


def validator(verb):
    """What checks values against a verb's schema."""
    return jsonschema.Draft202012Validator(schema_of(verb))


def keys_of(schema, values, prefix=""):
    """Dotted key -> schema, of the keys that are no sections."""
    for name, field in values["properties"].items():
        if "$ref" in field:
            inner = schema["$defs"][field["$ref"].rpartition("/")[2]]
            yield from keys_of(schema, inner, f"{prefix}{name}.")
        else:
            yield prefix + name, field


@EACH
def test_every_key_is_there_and_described(verb):
    schema = schema_of(verb)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert (schema["title"], schema["description"]) == (f"seit-ray {verb}", VERBS[verb].__doc__)
    keys = dict(keys_of(schema, schema))
    about = dict(fields(VERBS[verb]))
    assert set(keys) == set(about)
    for key, (_, text, default) in about.items():
        is_required = str(default) == "PydanticUndefined"
        assert keys[key]["description"] == text + " (required, here or as key=value)" * is_required
        assert ("default" in keys[key]) != is_required


@EACH
def test_secrets_are_write_only(verb):
    schema = schema_of(verb)
    secrets = {key for key, field in keys_of(schema, schema) if field.get("writeOnly")}
    assert secrets == {key for key, _ in fields(VERBS[verb]) if holds_secret(VERBS[verb], key)}
    assert "storage.secret_access_key" in secrets


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_every_recipe_keeps_to_the_schema_of_its_verb(file):
    verb = next(verb for verb in VERBS if file.stem.startswith(verb))
    values = yaml.safe_load(file.read_text())
    assert values
    validator(verb).validate(values)


@pytest.mark.parametrize(
    ("verb", "values"),
    [
        ("pretrain", {"loop": {"epoch": 3}}),
        ("pretrain", {"dataset": 3}),
        ("pretrain", {"loop": {"epochs": 0}}),
        ("pretrain", {"model": {"size": "huge"}}),
        ("pretrain", {"optimizer": {"betas": [0.9]}}),
        ("finetune", {"masking": {}}),
    ],
)
def test_what_a_verb_refuses_its_schema_refuses(verb, values):
    assert list(validator(verb).iter_errors(values))
    with pytest.raises(ValueError, match=r"key"):
        load(VERBS[verb], [], [f"{key}={json.dumps(value)}" for key, value in values.items()])


def test_defaults_that_hold_in_one_place_only():
    def default(verb, section, key):
        return schema_of(verb)["$defs"][section]["properties"][key]["default"]

    assert default("evaluate", "WorkersHere", "num_workers") == 0
    assert default("pretrain", "Workers", "num_workers") == 2
    assert default("sweep", "SweepProbe", "every_epochs") == 1
    assert default("study_continual", "ContinualCentroid", "image_size") == 32


def test_to_the_terminal_to_a_file_and_all(capsys, tmp_path):
    main(["schema", "pretrain"])
    text = capsys.readouterr().out
    assert json.loads(text) == schema_of("pretrain")
    main(["schema", "pretrain", "--output", str(tmp_path / "more" / "pretrain.json")])
    assert (tmp_path / "more" / "pretrain.json").read_text() == text
    main(["schema", "--all", str(tmp_path / "all")])
    assert capsys.readouterr().out == f"{len(VERBS)} schemas in {tmp_path}/all\n"
    assert {file.name for file in (tmp_path / "all").iterdir()} == {f"{verb}.schema.json" for verb in VERBS}
    assert (tmp_path / "all" / "pretrain.schema.json").read_text() == text


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ([], "VERB and --all; expected one of them"),
        (["pretrain", "--all", "x"], "VERB and --all; expected one of them"),
        (["--all", "x", "--output", "y"], "--output with --all; expected one of them"),
        (["pretian"], "invalid choice: 'pretian'"),
        (["runs"], "invalid choice: 'runs'"),
        (["pretrain", "--output", "hdfs://bucket/x"], "uri hdfs://bucket/x; expected s3://BUCKET/PATH"),
        (["pretrain", "--output", "/dev/null/x"], "/dev/null"),
        (["--all", "/dev/null/x"], "/dev/null"),
    ],
)
def test_mistakes_end_with_one_line_and_status_2(capsys, words, error):
    assert error in mistake(capsys, "schema", *words)
