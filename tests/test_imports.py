"""Ray at the edge: who may import what."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import seit_ray

PACKAGE = Path(seit_ray.__file__).parent
ROOT = PACKAGE.parent
EDGE = ("config/", "distributed/", "verbs/", "__main__.py")

BLOCKED = """
import importlib, pkgutil, sys


class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("ray", "pydantic"):
            raise ImportError(f"{name} is blocked")


sys.meta_path.insert(0, Blocker())
import seit_ray

for found in pkgutil.walk_packages(seit_ray.__path__, "seit_ray.", onerror=print):
    if found.name.startswith(("seit_ray.config", "seit_ray.distributed", "seit_ray.verbs", "seit_ray.__main__")):
        continue
    importlib.import_module(found.name)
    print(found.name)
"""


@cache
def imports_of(path):
    """Top-level names of all packages that a file imports, wherever in it."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and not node.level]
    return {name.partition(".")[0] for name in names}


def modules(*, edge):
    """Names, relative to the package, of the files at its edge, or of the others."""
    names = [path.relative_to(PACKAGE).as_posix() for path in sorted(PACKAGE.rglob("*.py"))]
    return [name for name in names if name.startswith(EDGE) == edge]


def test_all_but_the_edge_imports_without_ray_and_pydantic():
    done = subprocess.run([sys.executable, "-c", BLOCKED], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    expected = {"seit_ray." + name[:-3].replace("/", ".") for name in modules(edge=False)}
    expected = {name.removesuffix(".__init__") for name in expected} - {"seit_ray"}
    packages = {name for name in done.stdout.split() if name in expected}
    assert packages == {name for name in expected if "distributed" not in name}


@pytest.mark.parametrize("name", modules(edge=False))
def test_only_the_edge_names_ray_and_pydantic(name):
    assert not {"ray", "pydantic", "pipelines"} & imports_of(PACKAGE / name)


def test_the_edge_is_where_it_is_said_to_be():
    found = {package for name in modules(edge=True) for package in imports_of(PACKAGE / name)}
    assert {"ray", "pydantic"} <= found  # else the tests above look in the wrong places


@pytest.mark.parametrize("name", modules(edge=False))
def test_only_storage_knows_file_systems(name):
    if not name.startswith("storage/"):
        file_systems = {"s3fs", "boto3", "botocore", "fsspec", "gcsfs", "adlfs", "azure", "aiohttp"}
        assert not file_systems & imports_of(PACKAGE / name)


def test_no_pipeline_is_named_like_a_standard_module():
    names = {path.stem for path in (ROOT / "pipelines").glob("*.py")}
    assert not names & sys.stdlib_module_names
