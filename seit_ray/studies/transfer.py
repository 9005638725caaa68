"""Transfer: what pre-training on one set of images is worth on others. Imports no torch.

Source: DTM, fine-grained transfer; SeiT (arXiv 2303.11114), storage-efficient pre-training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from seit_ray.images.recode import Recoding
from seit_ray.runs.method_settings import CcvitSettings, DtmSettings
from seit_ray.runs.morph_sources import MorphSources
from seit_ray.runs.settings import AugmentationSettings, ClassifierSettings, MaskingSettings, PixelSettings
from seit_ray.storage import Folder
from seit_ray.studies.arms import CentroidSettings
from seit_ray.studies.image_set import ImageSet
from seit_ray.studies.methods import DRAWN, METHODS, ON_PIXELS, reads
from seit_ray.studies.storage_curve import PREPARED, place_of
from seit_ray.studies.study import SEED, trial_name
from seit_ray.studies.trials import Stage, Trial, trial_folder
from seit_ray.training.settings import LoopSettings, OptimizerSettings

STAGES = "seit_ray.studies.transfer_stages"
MAKES = "seit_ray.studies.storage_stages"
PROBED = 0.1  # of the cost of a training


@dataclass(frozen=True)
class Training:
    """How a classifier is trained; the loop's seed is that of the trial."""

    label_smoothing: float
    augment: AugmentationSettings
    loop: LoopSettings
    optimizer: OptimizerSettings
    adapt_run: Folder | None = None

    def arguments(self, seed: int) -> dict[str, Any]:
        """Of a run."""
        return {**vars(self), "loop": replace(self.loop, seed=seed)}


@dataclass(frozen=True)
class Pretraining:
    """How an encoder is pre-trained without labels; each row reads its own sections.

    teacher: the file of the weights of dtm_images.
    """

    masking: MaskingSettings
    augment: AugmentationSettings
    ccvit: CcvitSettings
    dtm: DtmSettings
    loop: LoopSettings
    optimizer: OptimizerSettings
    adapt_run: Folder | None = None
    teacher: MorphSources = field(default_factory=MorphSources)


@dataclass(frozen=True)
class Transfer:
    """A study of transfer: set A, on which rows are pre-trained, and the target sets, by name.

    columns: "probe" or "finetune", then "tokens" (of A's tokenizer), "new_tokens" (of one fitted on the target) or
    "pixels". second_codes: K of the other tokens of A that the row dtm_stream compares with.
    """

    folder: Folder
    data: ImageSet
    targets: Mapping[str, ImageSet]
    centroid: CentroidSettings
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    model: ClassifierSettings
    pixels: PixelSettings
    supervised: Training
    pretraining: Pretraining
    finetuning: Training
    seeds: tuple[int, ...]
    decided_by: Mapping[str, Any]
    second_codes: int = 0

    def trials(self) -> list[Trial]:
        """Tokenizer and tokens of all sets, the pre-trainings, then the cells of the table."""
        others = {name: data for name, data in self.targets.items() if data != self.data}
        listings = [self.listing(name) for name in ("", *others)]
        own = self.maker("tokens", "", self.data)
        stores = {(name, what): own for name in self.targets for what in ("tokens", "new_tokens") if name not in others}
        made: dict[tuple[str, str], Trial] = {}
        for name, data in others.items():
            if self.has_column_of("tokens"):
                made[name, "tokens"] = self.maker("tokens of the same tokenizer", name, data, tokenizer=own)
            if self.has_column_of("new_tokens"):
                made[name, "new_tokens"] = self.maker("tokens of its own tokenizer", name, data)
        stores |= made
        files = [self.files()] if ON_PIXELS in self.rows else []
        second = [self.second()] if "dtm_stream" in self.rows else []
        trained: dict[tuple[str, int], Trial] = {}
        for row in sorted(set(self.rows).difference(DRAWN), key=lambda row: (row == "dtm_run", self.rows.index(row))):
            for seed in self.seeds:
                if row in METHODS:
                    trained[row, seed] = self.pretrained(row, seed, own, second, trained.get(("mtm", seed)))
                else:
                    trained[row, seed] = self.supervised_on_a(row, seed, own, *files)
        cells = [
            self.cell(name, row, column, seed, stores.get((name, column.partition("_")[2])), trained.get((row, seed)))
            for name in self.targets
            for row in self.rows
            for column in self.columns
            if fits(row, column)
            for seed in self.seeds
        ]
        return [*listings, own, *made.values(), *files, *second, *trained.values(), *cells]

    def has_column_of(self, what: str) -> bool:
        """Whether a column does."""
        return any(column.partition("_")[2] == what for column in self.columns)

    def listing(self, name: str) -> Trial:
        """The trial that lists a target, or set A, for all that read it."""
        data = self.targets.get(name, self.data)
        what = "A" if data == self.data else f"target {name}"
        return data.listing_trial(self.folder, what, self.decided_by)

    def second(self) -> Trial:
        """Tokens of A by a tokenizer of another K, for a row that compares with them."""
        return self.maker(
            "other tokens", "", self.data, centroid=replace(self.centroid, codebook_size=self.second_codes)
        )

    def maker(
        self,
        what: str,
        name: str,
        data: ImageSet,
        tokenizer: Trial | None = None,
        centroid: CentroidSettings | None = None,
    ) -> Trial:
        """Tokens of a set, by another set's tokenizer or one of its own."""
        made = trial_name(f"{what} {name}", {"made": [what, name], **self.decided_by})
        run = trial_folder(self.folder, made).join("store")
        listing = self.listing(name)
        arguments = {"run": run, "data": data, "centroid": centroid or self.centroid, "encodings": ("compact",)}
        arguments["listing"] = place_of(listing)
        if tokenizer is not None:
            arguments["tokenizer"] = place_of(tokenizer).join("data", "tokenizer")
        needs = (listing.name, *([tokenizer.name] if tokenizer is not None else []))
        stage = Stage("make", f"{MAKES}:make_tokens", arguments)
        return Trial(made, {"made": f"{what} {name}".strip()}, (stage,), needs, PREPARED)

    def files(self) -> Trial:
        """The images of A as they are, for a row that is pre-trained on as many as fit into the bytes of tokens."""
        made = trial_name("images as they are", {"made": "images", **self.decided_by})
        run = trial_folder(self.folder, made).join("store")
        listing = self.listing("")
        arguments = {"run": run, "data": self.data, "listing": place_of(listing), "recoding": Recoding("source")}
        stage = Stage("make", f"{MAKES}:make_pictures", arguments)
        return Trial(made, {"made": "images as they are"}, (stage,), (listing.name,), PREPARED)

    def supervised_on_a(self, row: str, seed: int, tokens: Trial, files: Trial | None = None) -> Trial:
        """A row's training on A with labels, of tokens or, with `files`, of images of their bytes."""
        more = {"pixels": self.pixels, **self.supervised.arguments(seed)}
        if files is not None and row == ON_PIXELS:
            return self.on_a(row, seed, tokens, "supervise", {**more, "files": place_of(files)}, files)
        return self.on_a(row, seed, tokens, "supervise", more)

    def pretrained(self, row: str, seed: int, tokens: Trial, second: list[Trial], mtm: Trial | None) -> Trial:
        """A row's training on A without labels. second, mtm: what the morphing of some rows compares with."""
        method = METHODS[row]
        how = replace(self.pretraining, loop=replace(self.pretraining.loop, seed=seed))
        more: dict[str, Any] = {"method": method, "how": how}
        if method.on_images:
            listing = self.listing("")
            more |= {"data": self.data, "listing": place_of(listing), "pixels": self.pixels}
            return self.on_a(row, seed, tokens, "pretrain_on_images", more, listing)
        compared = {"stream": second, "run": [mtm] if mtm else []}.get(method.morph, [])
        place = place_of(compared[0]) if compared else None
        more["sources"] = MorphSources(run=place)
        if method.morph == "stream" and place is not None:
            more["sources"] = MorphSources(dataset=place.join("data"))
        return self.on_a(row, seed, tokens, "pretrain", more, *compared)

    def on_a(self, row: str, seed: int, tokens: Trial, stage: str, more: Mapping[str, Any], *needs: Trial) -> Trial:
        """A row's trial."""
        name = trial_name(f"pretrain {row} s{seed}", {"row": row, SEED: seed, **self.decided_by})
        run = trial_folder(self.folder, name).join("run")
        arguments = {"run": run, "tokens": place_of(tokens), "model": self.model_of(row), **more}
        made = {"made": f"pre-training {row}, seed {seed}"}
        needed = tuple(trial.name for trial in (tokens, *needs))
        return Trial(name, made, (Stage("train", f"{STAGES}:{stage}", arguments),), needed)

    def model_of(self, row: str) -> ClassifierSettings:
        """The classifier that goes on from a row: what a pre-training has learnt to read, it reads."""
        return replace(self.model, **reads(row))

    def cell(self, target: str, row: str, column: str, seed: int, store: Trial | None, start: Trial | None) -> Trial:
        """One figure."""
        settings = {"target": target, "row": row, "column": column, SEED: seed}
        name = trial_name(f"{target} {row} {column} s{seed}", {**settings, **self.decided_by})
        how, listing = column.partition("_")[0], self.listing(target)
        arguments: dict[str, Any] = {
            "run": trial_folder(self.folder, name).join("run"),
            "data": self.targets[target],
            "listing": place_of(listing),
            "store": place_of(store) if store is not None else None,
            "pixels": self.pixels,
            "model": self.model_of(row),
            "start": place_of(start) if start is not None else None,
            "how": how,
            **self.finetuning.arguments(seed),
        }
        needs = tuple(trial.name for trial in (store or listing, start) if trial is not None)
        stage = Stage("measure", f"{STAGES}:measure", arguments)
        return Trial(name, settings, (stage,), needs, PROBED if how == "probe" else 1.0)


def fits(row: str, column: str) -> bool:
    """Whether a row can be measured so: what was pre-trained on pixels alone knows no tokens."""
    return row != ON_PIXELS or column.endswith("_pixels")
