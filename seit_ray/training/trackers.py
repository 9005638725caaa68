"""Where metrics are shown live: TensorBoard, MLflow, Weights & Biases behind one small interface.

The last two are optional (`pip install 'seit_ray[mlflow]'`, `'seit_ray[wandb]'`) and are reached as their own
environment variables say (MLFLOW_TRACKING_URI, WANDB_PROJECT, WANDB_MODE, ...). A continued run goes on in its entry.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from seit_ray.storage import Folder

PROJECT = "seit_ray"


class Tracker(Protocol):
    """A place for numbers by step."""

    def add(self, step: int, numbers: dict[str, float]) -> None:
        """Take the numbers of a step."""
        ...

    def flush(self) -> None:
        """Show what there is."""
        ...

    def close(self) -> None:
        """Flush and end."""
        ...


class TensorBoard:
    """Event files in the run's folder tensorboard/."""

    def __init__(self, run: Folder, start_step: int, about: dict[str, Any]):
        del about  # the checkpoints have it
        self.run = run
        self._local = Path(tempfile.mkdtemp(prefix="seit_ray-")) if run.is_remote else Path(run.uri) / "tensorboard"
        from torch.utils.tensorboard import SummaryWriter  # slow to import: only where a run is written

        self._board = SummaryWriter(str(self._local), purge_step=start_step + 1 if start_step else None)

    def add(self, step: int, numbers: dict[str, float]) -> None:
        for name, value in numbers.items():
            self._board.add_scalar(name, value, step)

    def flush(self) -> None:
        self._board.flush()
        if self.run.is_remote:
            for path in self._local.iterdir():
                self.run.write(f"tensorboard/{path.name}", path.read_bytes())

    def close(self) -> None:
        self.flush()
        self._board.close()
        if self.run.is_remote:
            shutil.rmtree(self._local)


class MLflow:
    """A run of MLflow's experiment `seit_ray`, or of MLFLOW_EXPERIMENT_NAME; mlflow.json remembers which."""

    def __init__(self, run: Folder, start_step: int, about: dict[str, Any]):
        import mlflow

        self.client = mlflow.tracking.MlflowClient()
        known = json.loads(run.read("mlflow.json"))["run_id"] if run.exists("mlflow.json") else None
        if known is None:
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
            experiment = self.client.get_experiment_by_name(name)
            number = experiment.experiment_id if experiment else self.client.create_experiment(name)
            known = self.client.create_run(number, run_name=name_of(run)).info.run_id
            run.write("mlflow.json", json.dumps({"run_id": known}).encode())
            for key, value in about.items():
                self.client.log_param(known, key, str(value)[:500])
        self.run_id = known
        if start_step:
            self.client.set_tag(known, "continued_from_step", str(start_step))

    def add(self, step: int, numbers: dict[str, float]) -> None:
        for name, value in numbers.items():
            self.client.log_metric(self.run_id, name, value, step=step)

    def flush(self) -> None:
        """Every call is sent as it is made."""

    def close(self) -> None:
        self.client.set_terminated(self.run_id)


class WeightsAndBiases:
    """A run of the project `seit_ray`, or of WANDB_PROJECT; its id follows from the run's folder."""

    def __init__(self, run: Folder, start_step: int, about: dict[str, Any]):
        import wandb

        number = hashlib.sha256(run.uri.encode()).hexdigest()[:16]
        project = os.environ.get("WANDB_PROJECT", PROJECT)
        self.run = wandb.init(project=project, id=number, name=name_of(run), resume="allow", config=dict(about))
        # its own step never goes back, and that of a run that was killed behind its last checkpoint does
        self.run.define_metric("*", step_metric="step")
        if start_step:
            self.run.summary["continued_from_step"] = start_step

    def add(self, step: int, numbers: dict[str, float]) -> None:
        self.run.log({"step": step, **numbers})

    def flush(self) -> None:
        """Its own process sends what there is."""

    def close(self) -> None:
        self.run.finish()


TRACKERS: dict[str, type] = {"tensorboard": TensorBoard, "mlflow": MLflow, "wandb": WeightsAndBiases}


def name_of(run: Folder) -> str:
    """The last part of a run's folder."""
    return run.uri.rstrip("/").rpartition("/")[2]


def check_trackers(names: Sequence[str]) -> None:
    """ValueError for a tracker that is unknown or whose package is missing."""
    for name in names:
        if name not in TRACKERS:
            raise ValueError(f"trackers {name!r}; expected some of {', '.join(TRACKERS)}; choose from them")
        if name not in sys.modules and importlib.util.find_spec(name) is None:
            raise ValueError(
                f"trackers {name!r} without its package; expected {name} installed; pip install 'seit_ray[{name}]'"
            )


def open_trackers(names: Sequence[str], run: Folder, start_step: int, about: dict[str, Any]) -> list[Tracker]:
    """The named trackers of a run that begins or goes on at a step; `about` says what the run is."""
    return [TRACKERS[name](run, start_step, about) for name in names]
