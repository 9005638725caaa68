"""The files in cluster/: parsable, complete, and in step with each other and with pyproject.toml."""

import hashlib
import importlib.metadata
import re
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = ROOT / "cluster"


def pins():
    """Every pinned requirement, in the order of the file."""
    lines = (CLUSTER / "constraints.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def versions():
    return {canonicalize_name(pin.name): next(iter(pin.specifier)).version for pin in pins()}


def project():
    path = ROOT / "pyproject.toml"
    if not path.exists():
        pytest.skip("no pyproject.toml beside cluster/")
    return tomllib.loads(path.read_text())["project"]


def runtime_env():
    return yaml.safe_load((CLUSTER / "runtime_env.yaml").read_text())


def test_every_constraint_is_one_exact_version_and_nothing_else():
    for pin in pins():
        (specifier,) = pin.specifier
        assert specifier.operator == "==", pin
        assert "*" not in specifier.version, pin
        assert [pin.url, pin.extras, pin.marker] == [None, set(), None], pin


def test_constraints_are_sorted_without_duplicates():
    names = [canonicalize_name(pin.name) for pin in pins()]
    assert names == sorted(set(names))


def test_constraints_name_no_address_option_or_local_path():
    for line in (CLUSTER / "constraints.txt").read_text().splitlines():
        assert "://" not in line
        assert " @ " not in line
        assert not line.startswith(("-", "/", "."))


def test_constraints_leave_to_torch_what_torch_pins():
    left_out = re.compile(r"nvidia-|cuda-|triton$|seit-ray$|scikit-learn$|scipy$|joblib$")
    assert [name for name in versions() if left_out.match(name)] == []


def test_every_dependency_is_pinned_to_a_version_it_allows():
    metadata = project()
    extras = [line for group in metadata.get("optional-dependencies", {}).values() for line in group]
    pinned = versions()
    for requirement in map(Requirement, [*metadata["dependencies"], *extras]):
        if requirement.name == metadata["name"]:  # an extra that includes another one
            continue
        version = pinned.get(canonicalize_name(requirement.name))
        assert version, f"{requirement.name} is not in cluster/constraints.txt"
        assert requirement.specifier.contains(version), f"{requirement} does not allow {version}"


def test_pinned_packages_support_the_python_versions_of_the_project():
    wanted = SpecifierSet(project()["requires-python"])
    pythons = [version for version in ("3.11.0", "3.12.0", "3.13.0") if version in wanted]
    assert len(pythons) == 3
    checked = 0
    for name, version in versions().items():
        try:
            installed = importlib.metadata.metadata(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if installed["Version"] == version:
            checked += 1
            supported = SpecifierSet(installed["Requires-Python"] or "")
            assert all(python in supported for python in pythons), f"{name} {version} needs Python {supported}"
    assert checked > 10


def test_ray_accepts_the_runtime_environment():
    from ray.runtime_env import RuntimeEnv

    given = runtime_env()
    parsed = RuntimeEnv(**given)
    assert parsed.pip_config()["packages"] == given["pip"]["packages"]
    assert parsed["excludes"] == given["excludes"]
    assert parsed["config"]["setup_timeout_seconds"] > 600
    with pytest.raises(ValueError, match="packages"):  # Ray does look: a misspelt key is refused
        RuntimeEnv(pip={"package": given["pip"]["packages"]})


def test_the_runtime_environment_installs_the_dependencies_under_the_constraints():
    first, digest, *packages = runtime_env()["pip"]["packages"]
    assert first == "-c ${RAY_RUNTIME_ENV_CREATE_WORKING_DIR}/cluster/constraints.txt"
    # pip expands only such names in requirement files
    assert re.search(r"\$\{[A-Z0-9_]+\}", first)
    assert packages == project()["dependencies"]
    now = hashlib.sha256((CLUSTER / "constraints.txt").read_bytes()).hexdigest()[:12]
    assert digest == f"# constraints {now}", "the constraints changed: put this digest in cluster/runtime_env.yaml"


def test_the_upload_holds_the_code_and_leaves_the_rest(tmp_path):
    from ray._private.runtime_env.packaging import create_package

    root = tmp_path / "checkout"
    sent = [
        "cluster/constraints.txt",
        "pipelines/sample/images.parquet",
        "seit_ray/data/x.py",
        "pyproject.toml",
    ]
    kept = [
        ".git/HEAD",
        ".venv/lib/a.py",
        "runs/quickstart/report.html",
        "data/images.zip",
        "tests/test_x.py",
    ]
    for name in sent + kept:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    package = tmp_path / "package.zip"
    create_package(str(root), package, include_gitignore=True, excludes=runtime_env()["excludes"])
    with zipfile.ZipFile(package) as archive:
        files = {name for name in archive.namelist() if not name.endswith("/")}
        folders = {name for name in archive.namelist() if name.endswith("/")}
    assert files == set(sent)
    assert not folders & {".git/", ".venv/", "runs/", "data/", "tests/"}  # skipped, not walked through


def test_the_dockerfile_installs_the_project_under_the_constraints():
    lines = (CLUSTER / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    steps = [line.split(None, 1) for line in lines if line.strip() and not line.startswith("#")]
    assert [word for word, _ in steps[:2]] == ["ARG", "FROM"]
    image = re.fullmatch(r"BASE=rayproject/ray:(\S+)-py3(\d+)-gpu", steps[0][1])
    assert image, steps[0][1]
    assert image[1] == versions()["ray"]
    assert 11 <= int(image[2]) <= 13
    installs = [rest for word, rest in steps if word == "RUN" and "pip install" in rest]
    assert len(installs) == 1
    assert re.search(r"pip install .*--constraint cluster/constraints\.txt '\.\[gs,az\]'( |$)", installs[0])
    copied = [source for word, rest in steps if word == "COPY" for source in rest.split()[1:-1]]
    assert {"pyproject.toml", "seit_ray"} <= set(copied)
    linked = {str(path.resolve().relative_to(ROOT)) for path in (ROOT / "seit_ray").iterdir() if path.is_symlink()}
    assert linked, "the package has its recipes, its sample and the cluster files through links"
    assert linked <= {*copied, *_below(copied)}
    metadata = project()
    assert {metadata["readme"], *metadata["license-files"]} <= {*copied, *_below(copied)}


def _below(names):
    """The files in those of names that are folders, relative to the root."""
    return {str(path.relative_to(ROOT)) for name in names for path in (ROOT / name).rglob("*")}


def test_the_readme_names_only_files_and_verbs_that_exist():
    text = (CLUSTER / "README.md").read_text()
    named = set(re.findall(r"\b((?:pipelines|cluster|tests)/[\w/]+\.\w+)", text))
    assert "cluster/runtime_env.yaml" in named
    assert [name for name in named if not (ROOT / name).exists()] == []
