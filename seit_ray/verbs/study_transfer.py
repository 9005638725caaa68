"""Transfer: pre-train on one set of images in several ways, probe and fine-tune on others; the same output continues.

seit-ray study transfer images=cifar10/ targets=[flowers12/] output=runs/transfer
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from seit_ray.config import StudyTraining, StudyTransfer
from seit_ray.config.transfer import name_of
from seit_ray.progress import Progress, silent
from seit_ray.storage.output import refuse_overlap
from seit_ray.studies.arms import CentroidSettings
from seit_ray.studies.image_set import ImageSet, check_splits, check_steps
from seit_ray.studies.methods import reads
from seit_ray.studies.study import Study
from seit_ray.studies.transfer import Pretraining, Training, Transfer
from seit_ray.verbs.command.image_checks import check_fit
from seit_ray.verbs.command.places import Rows, folder_of, looked_at, manifest_rows
from seit_ray.verbs.command.study import check_same_images, closing_rows, run_trials, study_of, study_rows
from seit_ray.verbs.command.study_checks import check_transfer, parts_read, unread_parts
from seit_ray.verbs.command.training import morph_sources

NAME = "study_transfer"


def check(config: StudyTransfer) -> Rows:
    """The sets, the cells of the table, what is done, and how many trials run at a time."""
    images, study = look(config), study_of_transfer(config)
    pixels = config.pixels
    check_same_images(study, config, val_fraction=pixels.val_fraction, seed=pixels.seed, only_look=True)
    return [*images, *unheeded(config), *study_rows(study, config)]


def study_transfer(config: StudyTransfer, progress: Progress = silent) -> Rows:
    """Run what is missing, and write table, picture and report; returns the table to print."""
    look(config)
    study, pixels = study_of_transfer(config), config.pixels
    check_same_images(study, config, val_fraction=pixels.val_fraction, seed=pixels.seed)
    outcomes = run_trials(study, config, progress)
    from seit_ray.studies.transfer_report import report_transfer, terminal_rows
    from seit_ray.verbs.command.record import record_of

    name = f"seit-ray study transfer from {config.images} to {', '.join(config.targets)}"
    lines = report_transfer(study.folder, outcomes, name, record_of(NAME, config))
    return [*terminal_rows(outcomes, lines), *unheeded(config), *closing_rows(study, outcomes)]


def look(config: StudyTransfer) -> Rows:
    """All sets, as far as a moment shows them; ValueError for what would end every trial."""
    check_transfer(config)
    pixels, is_read, rows = config.pixels, parts_read(config), list[tuple[str, str]]()
    output = folder_of(config.output, config.storage)
    for uri in (config.images, *config.targets):
        images = folder_of(uri, config.storage)
        refuse_overlap(output, images, "images")
        looked = looked_at(images, config.source, val_fraction=pixels.val_fraction, seed=pixels.seed)
        with looked as (manifest, is_whole):
            if is_whole:
                check_splits(manifest, images.uri)
                if uri == config.images or any("new_tokens" in column for column in config.columns):
                    num_train = manifest.splits["train"].num_images
                    check_fit(config.tokenizer, min(num_train, pixels.max_images or num_train), pixels.image_size)
                for name in ("pretrain", "supervised") if uri == config.images else ("finetune",):
                    if is_read[name]:
                        loop = getattr(config, name).loop.settings()
                        check_steps(manifest, pixels.max_images, loop, images.uri)
            rows += manifest_rows(images, manifest, is_whole)
    return rows


def study_of_transfer(config: StudyTransfer) -> Study:
    """All trials."""
    folder = folder_of(config.output, config.storage)
    study = study_of(NAME, config, folder, ())
    decided = {key: value for key, value in study.decided_by.items() if key not in ("rows", "columns", "targets")}
    pixels, tokenizer = config.pixels.settings(), config.tokenizer
    transfer = Transfer(
        folder=folder,
        data=image_set(config, config.images),
        targets={name_of(uri): image_set(config, uri) for uri in config.targets},
        centroid=CentroidSettings(pixels.image_size, resize=pixels.resize, **tokenizer.model_dump()),
        rows=config.rows,
        columns=config.columns,
        model=replace(config.model.settings(), stem_kernel=pixels.patch_size // tokenizer.patch_size),
        pixels=pixels,
        supervised=Training(**trained(config.supervised, config)),
        pretraining=pretraining(config),
        finetuning=Training(**trained(config.finetune, config)),
        seeds=config.seeds,
        decided_by=decided,
        second_codes=config.second_codebook_size or 4 * tokenizer.codebook_size,
    )
    places = {f"target {name}": data.images.uri for name, data in transfer.targets.items()}
    return replace(study, trials=tuple(transfer.trials()), decided_by={**decided, **places})


def unheeded(config: StudyTransfer) -> Rows:
    """What is said of the model and some rows do not heed, and what is of rows or columns left out, a line each."""
    found: dict[str, list[str]] = {}
    for row in config.rows:
        for name, value in reads(row).items():
            said = getattr(config.model, name)
            if name in config.model.model_fields_set and said != value:
                found.setdefault(f"model.{name} {said}", []).append(f"{row} ({value})")
    lines = [f"{what} by rows {', '.join(rows)}, whose encoders fix it" for what, rows in found.items()]
    lines += [f"{what}, {why}" for what, why in unread_parts(config)]
    return [("not heeded", line) for line in lines]


def image_set(config: StudyTransfer, uri: str) -> ImageSet:
    """A set, held out and sampled as `pixels` says."""
    pixels = config.pixels
    images = folder_of(uri, config.storage)
    return ImageSet(images, config.source.settings(), pixels.val_fraction, pixels.seed, pixels.max_images)


def trained(part: StudyTraining, config: StudyTransfer) -> dict[str, Any]:
    """Arguments of the training of a classifier."""
    shared = {"loop": part.loop.settings(), "optimizer": part.optimizer.settings()}
    return {"label_smoothing": part.label_smoothing, **shared, **augmented(part, config)}


def pretraining(config: StudyTransfer) -> Pretraining:
    """That of the rows that learn without labels."""
    part = config.pretrain
    sections = {name: getattr(part, name).settings() for name in ("masking", "ccvit", "dtm", "loop", "optimizer")}
    weights = morph_sources(part.dtm, config.storage)
    return Pretraining(**sections, **augmented(part, config), teacher=weights)


def augmented(part: Any, config: StudyTransfer) -> dict[str, Any]:
    """The augment section of a part, and the folder of the run that it names."""
    adapt = part.augment.adapt_run
    return {"augment": part.augment.settings(), "adapt_run": folder_of(adapt, config.storage) if adapt else None}
