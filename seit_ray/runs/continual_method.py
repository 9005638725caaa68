"""How a classifier learns new classes beside exemplars of old ones: rehearsal, then a balance between both.

Legend: n rows, C classes seen so far.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from seit_ray.batches.batch import gather
from seit_ray.batches.exemplars import Memory, herding, random_order
from seit_ray.batches.joined import JoinedStore, Part
from seit_ray.evaluation.classification import class_counts, classification_metrics
from seit_ray.evaluation.features import split_features
from seit_ray.objectives import SupervisedObjective
from seit_ray.runs.continual_settings import ContinualSettings
from seit_ray.runs.continual_views import View
from seit_ray.storage import Folder
from seit_ray.training.compiling import compiles_on, uncompiled
from seit_ray.training.loop import Trainer
from seit_ray.training.precision import autocast
from seit_ray.training.requests import Hooks
from seit_ray.training.settings import LoopSettings, OptimizerSettings
from seit_ray.training.world import World

EVAL_BATCH = 512
SEEDS_A_TRIAL = 1_000_000  # of its trainings: two trials' seeds never meet


@dataclass(frozen=True)
class Method:
    """Trainings and evaluations of one trial, by what all its steps share. places: class -> its label, int64 [C]."""

    view: View
    places: np.ndarray
    settings: ContinualSettings
    loop: LoopSettings
    optimizer: OptimizerSettings
    selection: str
    world: World
    identity: dict[str, Any]
    hooks: Hooks

    def part(self, split: str, rows: np.ndarray, labels: np.ndarray) -> Part:
        """Rows of a split, with the labels that they have in the source."""

        def read(which: np.ndarray) -> Tensor:
            values = self.view.read(split, rows[which])
            return torch.from_numpy(values.view(np.int16) if values.dtype == np.uint16 else values)

        return Part(read, self.places[labels[rows]])

    def exemplars(self, memory: Memory, labels: np.ndarray) -> Part:
        """What a memory's bytes give back."""
        rows = memory.rows
        stored = memory.codec.decoded(rows) if memory.codec else rows[:0]
        return Part(partial(gather, stored), self.places[labels[rows]])

    def seeded(self, step: int, phase: int) -> LoopSettings:
        """The loop of a phase of a step, with a seed of its own."""
        return replace(self.loop, seed=self.loop.seed * SEEDS_A_TRIAL + 2 * step + phase)

    def rehearse(self, model: nn.Module, parts: list[Part], step: int, run: Folder, val: JoinedStore, num: int) -> None:
        """Train on new classes and exemplars, for as many steps as `loop.epochs` of `num` images are."""
        self.train(model, JoinedStore(parts), run, val, num, self.seeded(step, 0), self.optimizer)

    def finetune(self, model: nn.Module, exemplars: Part, step: int, run: Folder, val: JoinedStore, num: int) -> None:
        """Train on as many exemplars of new classes as of old ones, at a lower rate (EEIL, Castro et al. 2018)."""
        loop = replace(self.seeded(step, 1), epochs=self.settings.balance_epochs)
        optimizer = replace(self.optimizer, warmup_epochs=0.0)
        peak = self.settings.balance_rate * optimizer.peak(loop.global_batch_size)
        optimizer = replace(optimizer, lr=peak, min_lr=min(optimizer.min_lr, peak))
        self.train(model, JoinedStore([exemplars]), run, val, num, loop, optimizer)

    def train(
        self,
        model: nn.Module,
        store: JoinedStore,
        run: Folder,
        val: JoinedStore,
        num: int,
        loop: LoopSettings,
        optimizer: OptimizerSettings,
    ) -> None:
        """Train, or go on where a killed training was; the model has the averaged weights, if there are any."""

        def evaluate(net: nn.Module, done: int) -> dict[str, float]:
            values = classification_metrics(net, val, num_classes_of(net), self.world, EVAL_BATCH)
            return {f"val_{name}": value for name, value in values.items()}

        share = num / len(store)
        loop = lengthened(loop, share, self.world.device)
        optimizer = replace(optimizer, warmup_epochs=optimizer.warmup_epochs * share)
        trainer = Trainer(
            model=model,
            objective=SupervisedObjective(
                label_smoothing=self.settings.label_smoothing, augment=self.view.augmentation()
            ),
            store=store,
            evaluate=evaluate,
            run=run,
            loop=loop,
            optimizer=optimizer,
            identity=self.identity,
            world=self.world,
            **self.hooks,
        )
        trainer.train()
        if trainer.ema:
            model.load_state_dict(trainer.ema)

    def ranking(self, model: nn.Module, rows: np.ndarray, labels: np.ndarray, label: int) -> np.ndarray:
        """Rows of one class, the best exemplar first."""
        if self.selection == "random":
            return rows[random_order(len(rows), len(rows), seed=self.loop.seed, label=label)]
        model.eval()
        encode: Any = model.forward_features
        with self.looking():
            features, _ = split_features(
                encode, JoinedStore([self.part("train", rows, labels)]), self.world, batch_size=EVAL_BATCH
            )
        return rows[herding(features, len(rows))]

    @contextlib.contextmanager
    def looking(self) -> Iterator[None]:
        """A block in the precision of the trainings, in which nothing is compiled, as in their evaluations."""
        device = self.world.device
        with uncompiled(compiles_on(device, self.loop.compile)), autocast(device, self.loop.precision_on(device)):
            yield

    def counts(self, model: nn.Module, val: JoinedStore) -> Tensor:
        """Samples and hits of each class seen, float64 [C,4] as in `class_counts`."""
        with self.looking():
            return class_counts(model, val, num_classes_of(model), self.world, EVAL_BATCH).cpu()


def num_classes_of(model: nn.Module) -> int:
    """How many classes a model tells apart."""
    return len(model.get_parameter("head.bias"))


def lengthened(loop: LoopSettings, share: float, device: torch.device) -> LoopSettings:
    """A loop whose epochs, and what is done every so many, are those of `share` times as many images as there are.

    So all arms take the same number of steps, however many exemplars they have.
    """
    each = {"eval_every_epochs": loop.eval_interval(device), "checkpoint_every_epochs": loop.checkpoint_every_epochs}
    every: dict[str, Any] = {name: max(1, math.ceil(epochs * share)) for name, epochs in each.items()}
    return replace(loop, epochs=loop.epochs * share, **every)
