"""The recipes: each loads into its verb, says what a reader wants to know, and its command is one that parses."""

import shlex
from dataclasses import fields
from pathlib import Path

import pytest

from seit_ray.augment.numbers import ChainSettings
from seit_ray.augment.settings import AugmentSettings
from seit_ray.config import load
from seit_ray.verbs.command.arguments import VERBS, joined
from seit_ray.verbs.command.pretrain_checks import check_sections
from seit_ray.verbs.command.study_checks import check_curve, check_parts, check_transfer
from seit_ray.verbs.command.unread import check_augment_keys, check_finetune_keys
from seit_ray.verbs.quickstart import parts

FILES = (Path(__file__).parents[2] / "pipelines" / "configs").glob("*.yaml")
CONFIGS = sorted(file for file in FILES if file.name != "prices.yaml")  # which is no recipe
EACH = pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)


def header(file):
    return "\n".join(line[1:].strip() for line in file.read_text().splitlines() if line.startswith("#"))


def commands(file):
    """(verb, arguments) of the commands in a header."""
    text = header(file).partition("Command:")[2].replace("\\\n", " ")
    for line in text.splitlines():
        words = shlex.split(line)
        if words[:1] == ["seit-ray"]:
            verb, *rest = joined(words[1:])
            yield verb, rest


@EACH
def test_the_header_says_what_to_expect(file):
    text = header(file)
    for word in ("Expected:", "Cost:", "Command:"):
        assert word in text
    assert max(map(len, file.read_text().splitlines())) <= 140


@EACH
def test_every_command_parses(file):
    found = list(commands(file))
    if file.stem == "quickstart":
        CHECKS["quickstart"](load(VERBS["quickstart"], ["quickstart"], []))
        return
    assert found
    for verb, words in found:
        named = [words[i + 1] for i, word in enumerate(words) if word == "--config"]
        overrides = [word for word in words if "=" in word]
        config = load(VERBS[verb], named, overrides)
        if hasattr(config, "augment"):
            check_augmentation(config)
        CHECKS.get(verb, lambda config: None)(config)
    verb, words = found[-1]
    assert file.stem in words
    assert file.stem.startswith(verb)


def check_pretraining(config):
    check_sections(config)
    check_augment_keys(config)


CHECKS = {  # what a dry run tells without data
    "pretrain": check_pretraining,
    "finetune": lambda config: check_finetune_keys(config, starts=bool(config.init_from)),
    "study_transfer": check_transfer,
    "study_storage_curve": check_curve,
    "quickstart": lambda config: check_parts(parts(config)),
    "run_all": lambda config: check_parts(parts(config)),
}


def check_augmentation(config):
    """The ranges of the augment section, as a run would check them."""
    settings = config.augment.settings()
    own = {field.name: getattr(settings, field.name) for field in fields(ChainSettings)}
    side = config.model.grid_side or 32
    AugmentSettings(grid=(32, 32), out_grid=(side, side), **own)


TRANSFERS = [file for file in CONFIGS if file.stem.startswith("study_transfer")]
PARTS = ("rows=[scratch]", "rows=[supervised]", "rows=[scratch,mtm]", "rows=[ccvit]", "columns=[probe_tokens]")


@pytest.mark.parametrize("file", TRANSFERS, ids=lambda file: file.stem)
def test_rows_and_columns_of_a_recipe_may_be_left_out(file):
    for part in PARTS:
        rows = ["rows=[mtm]"] if part.startswith("columns") else []
        config = load(VERBS["study_transfer"], [file.stem], ["images=a", "targets=[b]", "output=c", *rows, part])
        check_transfer(config)  # refuses none
        key, values = part.split("=")
        assert list(getattr(config, key)) == values.strip("[]").split(",")
