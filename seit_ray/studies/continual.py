"""Continual learning as a study: images are listed once, a tokenizer is fitted for each class order, then the arms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from seit_ray.runs.continual_settings import (
    Arm,
    ContinualSettings,
    LabelledImages,
    MemorySettings,
    arm_named,
)
from seit_ray.runs.settings import ClassifierSettings
from seit_ray.storage import Folder
from seit_ray.studies.arms import CentroidSettings
from seit_ray.studies.study import SEED, trial_name
from seit_ray.studies.trials import Stage, Trial, trial_folder
from seit_ray.training.settings import LoopSettings, OptimizerSettings

STAGES = "seit_ray.studies.continual_stages"
RUN, LISTING, TOKENIZER = "run", "listing", "tokenizer"  # folders in those of trials
LIST, FIT, LEARN = "list", "fit", "learn"


@dataclass(frozen=True)
class ContinualStudy:
    """What all trials share. images: but for where they are listed; tokenizer: the user's, None: one is fitted.

    decided_by: the user's keys that decide a result; trials are named after them and their own settings.
    """

    folder: Folder
    images: LabelledImages
    tokenizer: Folder | None
    centroid: CentroidSettings
    token_side: int
    settings: ContinualSettings
    model: ClassifierSettings
    loop: LoopSettings
    optimizer: OptimizerSettings
    decided_by: dict[str, Any]

    def trials(
        self, arms: Sequence[str], budgets: Sequence[int], selections: Sequence[str], seeds: Sequence[int]
    ) -> list[Trial]:
        """The listing, the tokenizers, and every arm under every setting that it has, seed by seed."""
        memories = [memory for arm in arms for memory in memories_of(arm_named(arm), budgets, selections)]
        name = trial_name("images", self.decided_by)
        images = replace(self.images, listing=trial_folder(self.folder, name).join(LISTING))
        stage = Stage(LIST, f"{STAGES}:list_images_once", {"run": images.listing, "images": images})
        listing = Trial(name, {"arm": "images"}, (stage,), cost=0.1)
        uses_tokens = any(arm_named(memory.arm).sees == "tokens" for memory in memories)
        fits = seeds if uses_tokens and not self.tokenizer else ()
        fitted = {seed: self.tokenizer_trial(images, listing, seed) for seed in fits}
        measured = [self.trial(images, listing, memory, s, fitted.get(s)) for memory in memories for s in seeds]
        return [listing, *fitted.values(), *measured]

    def tokenizer_trial(self, images: LabelledImages, listing: Trial, seed: int) -> Trial:
        """Fits centroids on the first classes of a seed's order."""
        order_seed = self.settings.order_seed + seed
        name = trial_name(f"tokenizer {order_seed}", {**self.decided_by, "order": order_seed})
        arguments = {
            "run": trial_folder(self.folder, name).join(TOKENIZER),
            "images": images,
            "centroid": self.centroid,
            "num_steps": self.settings.num_steps,
            "order_seed": order_seed,
        }
        stage = Stage(FIT, f"{STAGES}:fit_first_classes", arguments)
        return Trial(name, {"arm": f"tokenizer of order {order_seed}"}, (stage,), needs=(listing.name,), cost=0.3)

    def trial(
        self, images: LabelledImages, listing: Trial, memory: MemorySettings, seed: int, fitted: Trial | None
    ) -> Trial:
        """One arm, setting and seed."""
        arm, own = arm_named(memory.arm), settings_of(memory, seed)
        name = trial_name(" ".join(map(str, own.values())), {**self.decided_by, **own})
        tokenizer = self.tokenizer or (fitted.stages[0].run if fitted else None)
        arguments = {
            "run": trial_folder(self.folder, name).join(RUN),
            "images": images,
            "tokenizer": tokenizer if arm.sees == "tokens" else None,
            "token_side": self.token_side,
            "memory": memory,
            "seed": seed,
            "settings": self.settings,
            "model": self.model,
            "loop": self.loop,
            "optimizer": self.optimizer,
        }
        needs = [listing.name, *([fitted.name] if fitted and arm.sees == "tokens" else [])]
        cost = (self.settings.num_steps + 1) / 2 if arm.joint else 1.5 if arm.keeps else 1.0
        stage = Stage(LEARN, "seit_ray.runs.continual:continual", arguments)
        return Trial(name, own, (stage,), needs=tuple(needs), cost=cost)


def memories_of(arm: Arm, budgets: Sequence[int], selections: Sequence[str]) -> list[MemorySettings]:
    """The settings of an arm: every budget and selection where it keeps anything, else one."""
    if arm.keeps is None:
        return [MemorySettings(arm=arm.name)]
    return [MemorySettings(arm=arm.name, budget_bytes=b, selection=s) for b in budgets for s in selections]


def settings_of(memory: MemorySettings, seed: int) -> dict[str, Any]:
    """What sets a trial apart."""
    if memory.budget_bytes is None:
        return {"arm": memory.arm, SEED: seed}
    return {"arm": memory.arm, "budget": memory.budget_bytes, "selection": memory.selection, SEED: seed}
