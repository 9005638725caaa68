"""The pages: links that lead somewhere, commands that would be understood, Python that imports."""

import ast
import importlib
import re
import shlex
from pathlib import Path

import pytest

from seit_ray.config import fields, load
from seit_ray.config.loading import RECIPES
from seit_ray.verbs.command.arguments import TOOLS, VERBS, config_files, joined, parse

ROOT = Path(__file__).parents[2]
FILES = [*(ROOT / n for n in ("README.md", "CONTRIBUTING.md", "cluster/README.md")), *sorted(ROOT.glob("docs/*.md"))]
EACH = pytest.mark.parametrize("page", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
FENCE = re.compile(r"(?ms)^```(\w*)\n(.*?)^```")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
PLACEHOLDERS = {"VERB", "ID", "FILE", "key=value"}  # words of lines that show a form, not a command


def prose(page):
    """A page without its fenced blocks and code spans."""
    return re.sub(r"`[^`\n]*`", "", FENCE.sub("", page.read_text()))


def anchors(page):
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"(?m)^#+ (.*)$", FENCE.sub("", page.read_text()))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def links(page):
    """(target, anchor) of the relative links of a page."""
    for link in LINK.findall(prose(page)):
        if "://" not in link:
            target, _, anchor = link.partition("#")
            yield (page.parent / target if target else page).resolve(), anchor


def commands(page):
    """Words of the commands in a page's fenced blocks that begin with seit-ray, or a shell function for its submit."""
    for language, block in FENCE.findall(page.read_text()):
        if language == "python":
            continue
        for line in block.replace("\\\n", " ").splitlines():
            if not re.match(r"\s*(seit-ray|submit|python pipelines/\w+\.py) ", line):
                continue
            first, *words = shlex.split(line, comments=True)
            words = joined([word for word in words if word not in ('"$@"', "$GPUS")])
            if first == "python":
                yield [Path(words[0]).stem, *words[1:]]
            else:
                yield words if first == "seit-ray" else ["submit", *words]


def known_config(verb, files, overrides):
    """Check the keys of a command, and load it where its files are at hand."""
    known = {name for name, _ in fields(VERBS[verb])}
    sections = {name.rpartition(".")[0] for name in known} | {"space"}
    for word in overrides:
        key = word.partition("=")[0]
        assert key in known or key in sections, f"{verb} has no key {key}"
    if all((RECIPES / f"{Path(file).stem}.yaml").is_file() for file in files):
        load(VERBS[verb], [Path(file).stem for file in files], overrides)


@EACH
def test_links_lead_somewhere(page):
    for target, anchor in links(page):
        assert target.is_relative_to(ROOT), target
        assert target.exists(), f"{target.relative_to(ROOT)} is not there"
        assert not anchor or anchor in anchors(target), f"{target.relative_to(ROOT)} has no heading #{anchor}"


@EACH
def test_commands_are_understood(page, capsys):
    for words in commands(page):
        if PLACEHOLDERS & set(words) or "--help" in words:
            continue
        verb, *rest = words
        assert verb in VERBS or verb in TOOLS, words
        if verb in VERBS:
            parsed = parse(verb, rest)
            known_config(verb, config_files(parsed), parsed.overrides)
        else:
            parsed = importlib.import_module(f"seit_ray.verbs.{verb}").parse(rest)
            if verb == "submit":
                known_config(parsed.verb, parsed.config or [], parsed.overrides)
    assert capsys.readouterr().err == ""


def test_the_commands_are_found():
    found = {words[0] for page in FILES for words in commands(page)}
    assert set(VERBS) - {"quickstart"} | set(TOOLS) <= found


@EACH
def test_what_python_imports_is_there(page):
    for language, block in FENCE.findall(page.read_text()):
        if language == "python":
            lines = [node for node in ast.parse(block).body if isinstance(node, ast.Import | ast.ImportFrom)]
            names: dict = {}
            exec(compile(ast.Module(lines, []), page.name, "exec"), names)
            assert len(names) > len(lines)  # beside __builtins__, a name a line at least


def test_the_readme_is_short_and_keeps_its_commands():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    assert "On a machine with Python 3.11 to 3.13 and make, nothing else:" in text
    targets = set(re.findall(r"(?m)^(\w+):", (ROOT / "Makefile").read_text()))
    named = set(re.findall(r"(?m)^make (\w+)", "".join(block for _, block in FENCE.findall(text))))
    assert named == {"quickstart", "test"} <= targets


def test_every_page_is_linked_from_the_readme():
    linked = {target for target, _ in links(ROOT / "README.md")}
    assert set(FILES) - {ROOT / "README.md"} <= linked
