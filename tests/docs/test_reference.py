"""docs/reference.md says what the config models say."""

import re

import pytest

from seit_ray.config import fields
from seit_ray.config.keys import section_of
from seit_ray.verbs.command import reference as module
from seit_ray.verbs.command.arguments import TOOLS, VERBS, parse
from seit_ray.verbs.command.reference import COMMAND, FILE, main, reference


@pytest.fixture(scope="module")
def page():
    return reference()


def headed(page, name):
    """What stands under a heading."""
    return re.search(rf"^### {name}\n(.*?)(?=^##|\Z)", page, re.MULTILINE | re.DOTALL)[1]


def test_it_is_fresh(page):
    assert FILE.exists(), f"docs/reference.md is missing: {COMMAND}"
    assert FILE.read_text() == page, f"docs/reference.md is stale: {COMMAND}"


def test_it_can_be_read(page):
    assert len(page.splitlines()) <= 1000
    assert page.isascii()
    headings = re.findall(r"^### (\w+)$", page, re.MULTILINE)
    assert len(set(headings)) == len(headings)
    assert {heading.lower() for heading in headings} >= set(re.findall(r"\]\(#(\w+)\)", page))  # no link leads nowhere
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {3, 5}  # of options, of keys


@pytest.mark.parametrize("verb", VERBS)
def test_every_key_of_a_verb_is_on_it_or_in_a_section_that_it_names(page, verb):
    text = headed(page, verb)
    named = {"storage", "cluster", *re.findall(r"\[`([\w.]+)`\]", text)}
    for key in dict(fields(VERBS[verb])):
        assert key.rpartition(".")[0] in named or f"| `{key}` |" in text


@pytest.mark.parametrize("verb", VERBS)
def test_sections_have_every_key_with_its_meaning(page, verb):
    def check(section):
        for name, info in section.model_fields.items():
            inner = section_of(info.annotation)
            if inner is not None:
                check(inner)
            elif section is not VERBS[verb]:
                assert f"| `{name}` |" in page or f".{name}` |" in page
                assert info.description.replace("|", "\\|") in page

    check(VERBS[verb])


def test_defaults_that_differ_are_named(page):
    assert "[`workers`](#workershere)." in headed(page, "evaluate")
    assert "The keys of [Workers](#workers) with `num_workers=0`." in headed(page, "WorkersHere")
    assert "[`workers`](#workers), " in headed(page, "pretrain")
    assert "[`pretrain.probe`](#sweepprobe), " in headed(page, "sweep")
    assert "The keys of [Probe](#probe) with `every_epochs=1`." in headed(page, "SweepProbe")
    assert "The keys of [Loop](#loop) with `epochs=100`, `global_batch_size=1024`." in headed(page, "FinetuneLoop")
    assert "The keys of [Model](#model), and\n" in headed(page, "Classifier")


def test_rows(page):
    assert "| `run` | `str` | **required** | name of the run; the same name continues it |" in headed(page, "pretrain")
    assert "| `clip_grad` | `float` |  | largest gradient norm; none when left out |" in headed(page, "Optimizer")
    assert "| `betas` | `[float,float]` | `[0.9, 0.95]` |" in headed(page, "Optimizer")
    assert r"| `kind` | `auto\|folders\|" in headed(page, "Source")
    assert "| `secret_access_key` | `secret` |  |" in headed(page, "Storage")


def test_every_tool_and_option_is_there(capsys, page):
    for tool in TOOLS:
        assert f"seit-ray {tool} --help" in headed(page, tool)
    with pytest.raises(SystemExit):
        parse("pretrain", ["--help"])
    options = set(re.findall(r"--[a-z-]+", capsys.readouterr().out.partition("keys:")[0]))
    assert options <= set(re.findall(r"--[a-z-]+", page.partition("## Verbs")[0]))


def test_on_the_command_line(capsys, monkeypatch, tmp_path, page):
    main([])
    assert capsys.readouterr().out == page
    monkeypatch.setattr(module, "FILE", tmp_path / "reference.md")
    for content in (None, "old", page + "\n"):
        if content:
            module.FILE.write_text(content)
        with pytest.raises(SystemExit) as caught:
            main(["--check"])
        assert caught.value.code == 2
        assert f"is stale; expected what the config models say; run {COMMAND}\n" in capsys.readouterr().err
    module.FILE.write_text(page)
    main(["--check"])
    with pytest.raises(SystemExit):
        main(["--write"])
    assert "arguments --write; expected none, or --check" in capsys.readouterr().err
