import importlib.metadata
import tomllib
from pathlib import Path

import pytest

from seit_ray import config as configs
from seit_ray.verbs.command.job_environment import EXTRAS, environment_of, extras_of, refuse_extras, requirements

ROOT = Path(__file__).parents[3]


def test_the_environment_of_a_job(monkeypatch):
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    full = environment_of(None, installed=False, names=["AWS_REGION"])
    assert full["pip"]["packages"][0].startswith("-c ")
    assert full["env_vars"] == {"PYTHONUNBUFFERED": "1", "OMP_WAIT_POLICY": "PASSIVE", "AWS_REGION": "eu-central-1"}
    installed = environment_of(None, installed=True, names=[], extras=["gs"])
    assert set(full) - set(installed) == {"pip"}
    assert installed["env_vars"] == {"PYTHONUNBUFFERED": "1", "OMP_WAIT_POLICY": "PASSIVE"}


def test_extras_come_behind_what_is_always_installed():
    plain = environment_of(None, installed=False, names=[])["pip"]["packages"]
    more = environment_of(None, installed=False, names=[], extras=["gs", "optuna"])["pip"]["packages"]
    assert more[: len(plain)] == plain
    assert sorted(line.partition(">")[0] for line in more[len(plain) :]) == ["gcsfs", "optuna"]


def test_a_file_of_the_users_says_itself_what_is_installed(tmp_path):
    (tmp_path / "mine.yaml").write_text("pip: {packages: [numpy]}\n")
    found = environment_of(str(tmp_path / "mine.yaml"), installed=False, names=[], extras=["gs"])
    assert found["pip"] == {"packages": ["numpy"]}


def test_every_extra_of_users_is_known():
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(EXTRAS) == set(groups) - {"test"}
    assert [line for name in EXTRAS for line in requirements([name])] == [line for n in EXTRAS for line in groups[n]]


@pytest.mark.parametrize(
    ("words", "extras"),
    [
        (["dataset=s3://b/tokens", "output=/runs", "run=r"], []),
        (["dataset=gs://b/tokens", "output=az://c/runs", "run=r"], ["gs", "az"]),
        (["dataset=gcs://b/tokens", "output=abfss://c/runs", "run=r"], ["gs", "az"]),
        (["dataset=s3a://b/tokens", "output=ABFS://c/runs", "run=r"], ["az"]),
        (["dataset=/a/gs://b", "output=/runs", "run=r", "loop.trackers=[tensorboard,wandb]"], ["wandb"]),
    ],
)
def test_what_a_config_asks_for(words, extras):
    assert extras_of(configs.load(configs.Pretrain, [], words)) == extras


def test_what_a_sweep_asks_for():
    words = ["dataset=/tokens", "output=/runs", "run=r", "search.searcher=optuna", "space={mask.ratio: [0.1, 0.2]}"]
    assert extras_of(configs.load(configs.Sweep, [], words)) == ["optuna"]


def test_an_extra_that_would_not_be_installed_is_refused():
    refuse_extras([], file="mine.yaml", installed=True)
    refuse_extras(["gs"], file=None, installed=False)
    with pytest.raises(ValueError, match="--extra gs beside --runtime-env, which says itself what is installed; exp"):
        refuse_extras(["gs"], file="mine.yaml", installed=False)
    with pytest.raises(ValueError, match="--extra gs az beside --installed, which installs nothing; expected one"):
        refuse_extras(["gs", "az"], file=None, installed=True)


def test_a_package_that_is_not_installed(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", missing)
    assert requirements([]) == []
    with pytest.raises(ValueError, match="the extra gs of a package that is not installed here; expected"):
        requirements(["gs"])
