"""The steps of one trial of class-incremental learning: each learns its classes, chooses exemplars and is recorded."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from seit_ray.batches.exemplars import Memory
from seit_ray.batches.joined import JoinedStore
from seit_ray.evaluation.forgetting import incremental_figures, step_figures
from seit_ray.models.build import build_model
from seit_ray.models.exports import export_model
from seit_ray.models.growing import align_head, grow_from
from seit_ray.models.weights import load_weights, save_weights
from seit_ray.progress import silent
from seit_ray.runs.continual_method import Method
from seit_ray.runs.continual_settings import Arm
from seit_ray.storage import Folder
from seit_ray.training.identity import DECIDED_BY, check_same
from seit_ray.training.requests import Hooks

STEPS = "steps"
IDENTITY = "identity"
PHASES = ("rehearsal", "balance")


@dataclass
class Learner:
    """Takes the steps of a trial that are missing, in order. order: classes int64 [C]; labels: of each split, by class.

    What a step leaves stands in steps/: weights, then a record, the marker, from which a killed trial goes on; within a
    step it does from the checkpoints of its trainings.
    """

    run: Folder
    arm: Arm
    method: Method
    order: np.ndarray
    steps: list[range]
    labels: dict[str, np.ndarray]
    memory: Memory
    hooks: Hooks
    decided_by: dict[str, Any]

    def __post_init__(self) -> None:
        self.after: list[dict[str, Any]] = []  # what `step_figures` gave after each step
        self.held: list[dict[str, int]] = []  # what the memory held then
        self.weights: dict[str, Tensor] = {}

    def run_all(self) -> dict[str, Any]:
        """Take the steps that are missing; the figures of all."""
        self.restore()
        for step in range(len(self.after), len(self.steps)):
            self.take(step)
            if report := self.hooks.get("on_metrics"):
                report({"epoch": step + 1, "step": step + 1, **self.held[-1], "val_top1": self.after[-1]["top1"]})
        return {
            **incremental_figures(self.after),
            **self.held[-1],
            "test_images": len(self.labels["val"]),
            "top1_after": [row["top1"] for row in self.after],
            "of_steps_after": [row["of_step"] for row in self.after],
            "exemplars_after": [row["exemplars"] for row in self.held],
            "classes_after": [step.stop for step in self.steps],
            "order": self.order.tolist(),
        }

    def restore(self) -> None:
        """Go on behind the steps whose records stand."""
        folder = self.run.join(STEPS)
        for step in range(len(self.steps)):
            if not folder.exists(f"{step:03d}.json"):
                break
            record = json.loads(folder.read(f"{step:03d}.json"))
            if IDENTITY in record:  # that of an older version says nothing of itself
                check_same(record[IDENTITY], self.identity, self.run.uri)
            self.after.append(record["figures"])
            self.held.append(record["memory"])
            self.memory = replace(self.memory, ranked=rows_of(record["ranked"]))
        if self.after:
            self.weights = load_weights(folder.read(f"{len(self.after) - 1:03d}.safetensors"))
            if self.method.world.is_main:
                self.tidy(len(self.after) - 1)

    @property
    def identity(self) -> dict[str, Any]:
        """What a step's record must agree on with the trial that goes on from it."""
        return {**self.method.identity, DECIDED_BY: self.decided_by}

    def take(self, step: int) -> None:
        """Learn a step's classes, and record what is known and kept then."""
        classes = self.steps[step]
        places = self.method.places
        method = replace(self.method, hooks=self.told(step))
        train = places[self.labels["train"]]
        rows = [np.flatnonzero(train == place) for place in classes]
        seen = np.flatnonzero(places[self.labels["val"]] < classes.stop)
        val = JoinedStore([method.part("val", seen, self.labels["val"])])
        model, num_old = self.model_of(step)
        new = np.flatnonzero(train < classes.stop) if self.arm.joint else np.concatenate(rows)
        parts = [method.part("train", new, self.labels["train"]), method.exemplars(self.memory, self.labels["train"])]
        method.rehearse(model, parts, step, self.place(step, "rehearsal"), val, len(new))
        if self.memory.codec:
            self.memory = self.memory_of(step, method, model, rows)
        if num_old:
            self.balance(method, model, step, val, num_old, len(new))
        self.record(step, method, model, val)

    def memory_of(self, step: int, method: Method, model: nn.Module, rows: list[np.ndarray]) -> Memory:
        """The memory with exemplars of a step's classes, of which these are the rows; chosen once, whatever kills it.

        Features in 16 bits may tie, and another call of the same model need not break the tie as the first did.
        """
        folder, name = self.run.join(STEPS), chosen_name(step)
        if folder.exists(name):
            return replace(self.memory, ranked=rows_of(json.loads(folder.read(name))))
        pairs = zip(self.steps[step], rows, strict=True)
        ranked = [method.ranking(model, found, self.labels["train"], place) for place, found in pairs]
        memory = self.memory.with_classes(ranked)
        if method.world.is_main:
            folder.write(name, json.dumps([rows.tolist() for rows in memory.ranked]).encode())
        return memory

    def told(self, step: int) -> Hooks:
        """The hooks of a step's trainings, whose progress says which step it is."""
        hooks = Hooks(decided_by=self.decided_by)
        if "requests" in self.hooks:
            hooks["requests"] = self.hooks["requests"]
        tell = self.hooks.get("on_progress", silent)

        def told(phase: str, done: int, total: int, note: str = "") -> None:
            tell(phase, done, total, f"step {step + 1} of {len(self.steps)}, {note}")

        hooks["on_progress"] = told
        return hooks

    def place(self, step: int, phase: str) -> Folder:
        """Where a training of a step is written."""
        return self.run.join(STEPS, f"{step:03d}-{phase}")

    def model_of(self, step: int) -> tuple[nn.Module, int]:
        """(a model of all classes so far, how many of them it knows): the last step's, with a larger head.

        With all images at hand, in the arm that is the bound, it begins anew.
        """
        torch.manual_seed(self.method.seeded(step, 0).seed)
        model = build_model("classifier", **self.method.view.model_settings(self.steps[step].stop))
        if not step or self.arm.joint:
            return model.to(self.method.world.device), 0
        num_old = grow_from(model, self.weights)
        return model.to(self.method.world.device), num_old

    def balance(self, method: Method, model: nn.Module, step: int, val: JoinedStore, num_old: int, num: int) -> None:
        """Old and new classes brought into balance, as `settings.balance` says; without exemplars by the head alone."""
        how = self.method.settings.balance
        if how == "align":
            align_head(model, num_old)
        elif how == "finetune" and len(self.memory.rows):
            exemplars = method.exemplars(self.memory, self.labels["train"])
            method.finetune(model, exemplars, step, self.place(step, "balance"), val, num)

    def record(self, step: int, method: Method, model: nn.Module, val: JoinedStore) -> None:
        """Evaluate, and write weights, then the record, which says that the step is done."""
        counts = method.counts(model, val)
        figures = step_figures(counts[:, 1].tolist(), counts[:, 0].tolist(), self.steps[: step + 1])
        held = {"exemplars": len(self.memory.rows), "memory_bytes": self.memory.num_bytes}
        self.after.append(figures)
        self.held.append(held)
        self.weights = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
        if not self.method.world.is_main:
            return
        folder = self.run.join(STEPS)
        folder.write(f"{step:03d}.safetensors", save_weights(model))
        record = {"figures": figures, "memory": held, "ranked": [rows.tolist() for rows in self.memory.ranked]}
        record[IDENTITY] = self.identity
        folder.write(f"{step:03d}.json", json.dumps(record).encode())
        self.tidy(step)

    def tidy(self, step: int) -> None:
        """Drop what nothing goes on from once a step's record stands."""
        for phase in PHASES:
            self.place(step, phase).delete_tree("checkpoints")
        self.run.join(STEPS).delete(chosen_name(step))
        if step:
            self.run.join(STEPS).delete(f"{step - 1:03d}.safetensors")

    def export(self, about: dict[str, Any]) -> None:
        """The model of all classes, in the order in which they came, as a finished run."""
        settings = self.method.view.model_settings(len(self.order))
        model = build_model("classifier", **settings)
        grow_from(model, self.weights)
        export_model(self.run, model, kind="classifier", settings=settings, about=about)


def chosen_name(step: int) -> str:
    """The file of a step's exemplars, while the step is not done."""
    return f"{step:03d}-exemplars.json"


def rows_of(ranked: list[list[int]]) -> tuple[np.ndarray, ...]:
    """Rows of each class, as a record has them."""
    return tuple(np.array(rows, np.int64) for rows in ranked)
