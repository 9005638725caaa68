"""MLflow and Weights & Biases behind the interface of TensorBoard; their packages are played by small modules."""

import sys
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import pytest

from seit_ray.training.metrics import MetricsLog
from seit_ray.training.trackers import TRACKERS, check_trackers
from tests.tiny_trainers import tiny_trainer


class FakeClient:
    """What of MLflow's client is used; the class remembers."""

    runs: ClassVar[dict] = {}
    experiments: ClassVar[dict] = {}

    def get_experiment_by_name(self, name):
        return SimpleNamespace(experiment_id=self.experiments[name]) if name in self.experiments else None

    def create_experiment(self, name):
        return self.experiments.setdefault(name, f"experiment-{len(self.experiments)}")

    def create_run(self, experiment_id, run_name):
        number = f"run-{len(self.runs)}"
        self.runs[number] = {"name": run_name, "params": {}, "metrics": [], "tags": {}, "ended": 0}
        return SimpleNamespace(info=SimpleNamespace(run_id=number))

    def log_param(self, run_id, key, value):
        self.runs[run_id]["params"][key] = value

    def log_metric(self, run_id, name, value, step):
        self.runs[run_id]["metrics"].append((step, name, value))

    def set_tag(self, run_id, key, value):
        self.runs[run_id]["tags"][key] = value

    def set_terminated(self, run_id):
        self.runs[run_id]["ended"] += 1


@pytest.fixture
def mlflow(monkeypatch):
    """A module of that name, and its runs."""
    monkeypatch.setattr(FakeClient, "runs", {})
    monkeypatch.setattr(FakeClient, "experiments", {})
    module = ModuleType("mlflow")
    module.tracking = SimpleNamespace(MlflowClient=FakeClient)
    monkeypatch.setitem(sys.modules, "mlflow", module)
    return FakeClient


@pytest.fixture
def wandb(monkeypatch):
    """A module of that name; its `inits` and `logged` say what it was told."""
    module = ModuleType("wandb")
    module.inits, module.logged, module.finished = [], [], []

    def init(**settings):
        module.inits.append(settings)
        return SimpleNamespace(
            define_metric=lambda *names, **settings: None,
            log=module.logged.append,
            finish=lambda: module.finished.append(True),
            summary={},
        )

    module.init = init
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def write_steps(run, tracker, start, steps):
    """A log with that tracker."""
    log = MetricsLog(run, start, (tracker,), {"tokenizer": "abc", "seed": 3})
    for step in steps:
        log.add({"step": step, "train_loss": 1.0 / step, "note": "text"})
    log.close()


def test_mlflow_goes_on_in_its_run(run, mlflow):
    write_steps(run, "mlflow", 0, [1, 2])
    write_steps(run, "mlflow", 2, [3])
    (found,) = mlflow.runs.values()
    assert found["name"] == "run"
    assert found["params"] == {"tokenizer": "abc", "seed": "3"}
    assert found["metrics"] == [(step, "train_loss", 1.0 / step) for step in (1, 2, 3)]
    assert found["tags"] == {"continued_from_step": "2"}
    assert list(mlflow.experiments) == ["seit_ray"]


def test_mlflow_takes_the_experiment_of_the_environment(run, mlflow, monkeypatch):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "tokens")
    write_steps(run, "mlflow", 0, [1])
    assert list(mlflow.experiments) == ["tokens"]


def test_wandb_goes_on_in_its_run(run, wandb, monkeypatch):
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    write_steps(run, "wandb", 0, [1, 2])
    write_steps(run, "wandb", 2, [3])
    first, second = wandb.inits
    assert first == second
    assert (first["project"], first["name"], first["resume"]) == ("seit_ray", "run", "allow")
    assert first["config"] == {"tokenizer": "abc", "seed": 3}
    assert wandb.logged == [{"step": step, "train_loss": 1.0 / step} for step in (1, 2, 3)]
    assert len(wandb.finished) == 2


def test_runs_of_other_folders_are_others(run, wandb):
    write_steps(run, "wandb", 0, [1])
    write_steps(run.join("other"), "wandb", 0, [1])
    assert wandb.inits[0]["id"] != wandb.inits[1]["id"]


def test_a_run_has_the_trackers_it_asks_for(run, mlflow, wandb):
    tiny_trainer(run, loop={"trackers": ("mlflow", "wandb")}).train()
    (found,) = mlflow.runs.values()
    steps = [step for step, name, _ in found["metrics"] if name == "train_loss"]
    assert steps == [numbers["step"] for numbers in wandb.logged] == [3, 4, 6, 8]
    assert not list(run.list("tensorboard/"))


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_missing_package_is_an_error_in_one_line(run, monkeypatch, name):
    monkeypatch.setattr("importlib.util.find_spec", lambda package: None)
    text = rf"trackers '{name}' without its package; expected {name} installed; pip install 'seit_ray\[{name}\]'"
    with pytest.raises(ValueError, match=text):
        tiny_trainer(run, loop={"trackers": (name,)})


def test_unknown_trackers_are_refused():
    with pytest.raises(ValueError, match="trackers 'comet'; expected some of tensorboard, mlflow, wandb; choose"):
        check_trackers(("tensorboard", "comet"))
    check_trackers(("tensorboard",))
    assert set(TRACKERS) == {"tensorboard", "mlflow", "wandb"}
