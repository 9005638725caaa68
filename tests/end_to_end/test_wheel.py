"""The wheel is whole: installed alone, in an empty folder, it does what the checkout does."""

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.end_to_end.processes import LOCAL_RAY, ROOT, environment
from tests.tiny_images import image_files, write_files

BUILD = [
    sys.executable,
    "-m",
    "pip",
    "wheel",
    "--quiet",
    "--no-deps",
    "--no-build-isolation",
    "--disable-pip-version-check",
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of a copy of the checkout: building leaves files behind."""
    copy = tmp_path_factory.mktemp("checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    names = [n for n in listed.stdout.split("\0") if n and not n.startswith("tests/")] or pytest.skip("no checkout")
    for name in names:
        if (ROOT / name).is_symlink():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).symlink_to(os.readlink(ROOT / name))
        elif (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    place = tmp_path_factory.mktemp("dist")
    subprocess.run([*BUILD, "--wheel-dir", str(place), "."], cwd=copy, check=True, timeout=300)
    return next(place.glob("seit_ray-*.whl"))


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    """The interpreter of an environment with the wheel; what it depends on is that of these tests."""
    place = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True, timeout=120)
    found = place / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(found), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, "--disable-pip-version-check", str(wheel)], check=True, timeout=120)
    purelib = next((place / "lib").glob("python*")) / "site-packages"
    # a line of a .pth file is a folder of packages, whose own .pth files, as of the editable checkout, are not read
    (purelib / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"])
    return found


@pytest.fixture
def run(python, tmp_path):
    """`seit-ray ...` of the wheel, in an empty folder, that must end well; what it printed."""
    empty = tmp_path / "empty"
    empty.mkdir()

    def seit_ray(*arguments):
        done = subprocess.run(
            [python.with_name("seit-ray"), *arguments],
            cwd=empty,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return seit_ray


def test_the_wheel_holds_one_package_and_its_files(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == {"seit_ray"}
    sent = {f"seit_ray/recipes/{file.name}" for file in (ROOT / "pipelines" / "configs").glob("*.yaml")}
    sent |= {"seit_ray/sample/fashion_mnist_test.parquet", "seit_ray/py.typed"}
    assert sent | {"seit_ray/cluster/runtime_env.yaml", "seit_ray/cluster/constraints.txt"} <= set(names)


def test_it_is_the_wheel_that_runs(python, tmp_path):
    code = "import seit_ray, importlib.util as u; print(seit_ray.__file__, u.find_spec('pipelines'))"
    done = subprocess.run(
        [python, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split()[0].startswith(str(python.parents[1]))
    assert done.stdout.split()[1] == "None"


def test_the_bundled_sample_and_recipes_are_found(run):
    assert "train 8000, val 2000" in run("quickstart", "--dry-run")
    recipes = sorted(file.stem for file in (ROOT / "pipelines" / "configs").glob("pretrain_*.yaml"))
    for recipe in recipes:
        run("pretrain", "--config", recipe, "--help")
    assert "prices.yaml" in run("plan")


@pytest.mark.slow
def test_a_quickstart_from_an_empty_folder(run, tmp_path):
    images = write_files(tmp_path / "photos", image_files(60, classes=("cat", "dog")))
    small = ["centroid.codebook_size=16", "workers.num_workers=0"]
    small += ["finetune.loop={epochs: 1, global_batch_size: 16}", "finetune.optimizer.warmup_epochs=0"]
    out = run("quickstart", f"images={images.uri}", *small, *LOCAL_RAY)
    assert "top-1, transformer on tokens" in out
    assert (tmp_path / "empty" / "runs" / "quickstart" / "report.html").exists()
    record = json.loads((tmp_path / "empty" / "runs" / "quickstart" / "quickstart.run.json").read_text())
    assert record["config"]["finetune"]["loop"]["epochs"] == 1


def test_what_a_submission_sends_runs_by_itself(python, tmp_path):
    """As a node does that has all packages but this one."""
    code = "from seit_ray.verbs.submit import staged\nimport shutil, sys\n"
    code += "with staged(['quickstart']) as (folder, names): shutil.copytree(folder, sys.argv[1]); print(*names)"
    target = tmp_path / "job"
    sent = subprocess.run([python, "-c", code, target], cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert sent.stdout.split() == ["config-0-quickstart.yaml"], sent.stderr
    variables = environment(PYTHONPATH=f"{target}{os.pathsep}{sysconfig.get_paths()['purelib']}")
    words = ["quickstart", "--config", "config-0-quickstart.yaml", "--dry-run", f"output={tmp_path}/out"]
    done = subprocess.run(
        [sys.executable, "-S", "-m", "seit_ray", *words],
        cwd=target,
        env=variables,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert str(Path(target, "seit_ray", "sample")) in done.stdout
