"""Class-incremental learning beside a memory of bytes: tokens, JPEG and pixels compared; the same command continues.

seit-ray study continual --config study_continual_cifar10 images=cifar10 output=runs/continual
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from seit_ray.config import StudyContinual
from seit_ray.progress import Progress, silent
from seit_ray.runs.continual_settings import (
    LabelledImages,
    MemorySettings,
    arm_named,
    check_budget,
    check_classes_of,
    codebook_bytes,
)
from seit_ray.storage.output import refuse_overlap
from seit_ray.studies.arms import CentroidSettings
from seit_ray.studies.study import Study
from seit_ray.studies.trials import Outcome
from seit_ray.verbs.command.image_checks import check_fit, num_train
from seit_ray.verbs.command.known_tokens import KnownTokens
from seit_ray.verbs.command.places import Rows, folder_of, looked_at, manifest_rows, tokenizer_folder
from seit_ray.verbs.command.shape_checks import check_token_classifier, mistakes_of
from seit_ray.verbs.command.study import check_same_images, closing_rows, run_trials, study_of, study_rows
from seit_ray.verbs.command.training import check_loop, check_size

if TYPE_CHECKING:
    from seit_ray.images.manifest import Manifest

VERB = "study_continual"
CENTROID = dataclasses.fields(CentroidSettings)


def check(config: StudyContinual) -> Rows:
    """What would be compared, on what, and what is done already."""
    rows = check_images(config)
    study = job_of(config)
    check_listed(study, config, only_look=True)
    budgets = ", ".join(f"{budget:,}" for budget in config.budgets)
    taken = [(f"bytes of a tokenizer, of {budgets}", f"{shared_bytes(config):,}")] if uses_tokens(config) else []
    return [*rows, *taken, *study_rows(study, config)]


def study_continual(config: StudyContinual, progress: Progress = silent) -> Rows:
    """Run what is missing of the study; returns the table to print."""
    check_images(config)
    study = job_of(config)
    check_listed(study, config)
    outcomes = run_trials(study, config, progress)
    from seit_ray.studies.continual_report import report_continual, terminal_rows
    from seit_ray.verbs.command.record import record_of

    name = f"seit-ray study continual on {config.images}, {config.num_steps} steps"
    lines = report_continual(study.folder, outcomes, name, record_of(VERB, config))
    return [*terminal_rows(lines), *unreadable_rows(outcomes), *closing_rows(study, outcomes)]


def check_listed(study: Study, config: StudyContinual, *, only_look: bool = False) -> None:
    """ValueError where the images are not those that the study has listed."""
    check_same_images(study, config, val_fraction=config.val_fraction, seed=config.split_seed, only_look=only_look)


def unreadable_rows(outcomes: Sequence[Outcome]) -> Rows:
    """How many images could not be read, if any."""
    from seit_ray.studies.continual_stages import UNREADABLE

    lost = sum((outcome.figures or {}).get(UNREADABLE, 0) for outcome in outcomes)
    return [("unreadable images", f"{lost}; another stands in the place of each, with its label")] if lost else []


def job_of(config: StudyContinual) -> Study:
    """The checked study; ValueError for whatever would end a trial and can be known before."""
    from seit_ray.studies.continual import ContinualStudy
    from seit_ray.verbs.command.record import decided_by

    images, folder = folder_of(config.images, config.storage), folder_of(config.output, config.storage)
    refuse_overlap(folder, images, "images")
    size, resize, side = seen_as(config)
    check_model(config, size, side)
    check_budgets(config)
    found = LabelledImages(
        images=images,
        source=config.source.settings(),
        listing=folder,
        image_size=size,
        resize=resize,
        val_fraction=config.val_fraction,
        seed=config.split_seed,
        max_images=config.max_images,
    )
    study = ContinualStudy(
        folder=folder,
        images=found,
        tokenizer=tokenizer_folder(config),
        centroid=CentroidSettings(**{f.name: getattr(config.centroid, f.name) for f in CENTROID}),
        token_side=side,
        settings=config.settings(),
        model=config.model.settings(),
        loop=config.loop.settings(),
        optimizer=config.optimizer.settings(),
        decided_by=decided_by(config),
    )
    trials = study.trials(config.arms, config.budgets, config.selections, config.seeds)
    return study_of(VERB, config, folder, trials)


def uses_tokens(config: StudyContinual) -> bool:
    """Whether any arm sees tokens; ValueError for an arm that there is not."""
    return any(arm_named(name).sees == "tokens" for name in config.arms)


def seen_as(config: StudyContinual) -> tuple[int, str, int]:
    """(side of an image in pixels, how it is brought to it, side of a token); ValueError where these do not fit."""
    folder = tokenizer_folder(config)
    if folder is not None:
        from seit_ray.tokenizers.about import read_about

        about = read_about(folder)
        if about["family"] == "codebook":
            raise ValueError(
                f"tokenizer {folder.uri} is a codebook alone; expected one that can encode images; name another"
            )
        size = about["config"]["image_size"]
        return size, about["config"]["resize"], size // about["grid"][0]
    centroid = config.centroid
    if centroid.image_size % centroid.patch_size:
        raise ValueError(
            f"centroid.image_size {centroid.image_size} with centroid.patch_size {centroid.patch_size}; expected a "
            "multiple of it; correct one of them"
        )
    return centroid.image_size, centroid.resize, centroid.patch_size


def check_model(config: StudyContinual, image_size: int, token_side: int) -> None:
    """ValueError for sizes of the transformer that do not go together, or a stem that does not fit the tokens."""
    check_size(config.model)
    check_loop(config.loop)
    tokens = KnownTokens.of_centroids("the study's tokens", image_size, token_side, config.centroid.codebook_size)
    check_token_classifier(config.model, tokens, config.model.encoder or "vit")


def shared_bytes(config: StudyContinual) -> int:
    """Bytes of the tokenizer that a memory of tokens is charged with."""
    folder = tokenizer_folder(config)
    if folder is None:
        return codebook_bytes(config.centroid.codebook_size, 3 * config.centroid.patch_size**2)
    from seit_ray.runs.continual_views import tokenizer_bytes
    from seit_ray.tokenizers.files import load_tokenizer

    return tokenizer_bytes(load_tokenizer(folder)[0], encoder_travels=config.encoder_travels)


def check_budgets(config: StudyContinual) -> None:
    """ValueError where a budget does not hold the tokenizer of an arm that needs one."""
    if not uses_tokens(config):
        return
    shared = shared_bytes(config)
    for name in config.arms:
        if arm_named(name).sees == "tokens" and arm_named(name).keeps:
            for budget in config.budgets:
                check_budget(MemorySettings(arm=name, budget_bytes=budget), shared)


def check_images(config: StudyContinual) -> Rows:
    """The images, as far as a look finds them; ValueError for what would end every trial."""
    from seit_ray.images.labels import check_all_labelled

    images = folder_of(config.images, config.storage)
    with looked_at(images, config.source, val_fraction=config.val_fraction, seed=config.split_seed) as found:
        manifest, is_whole = found
        for split in manifest.splits:
            check_all_labelled(manifest, split, images.uri)
        if is_whole:
            check_protocol(config, manifest, images.uri)
        return manifest_rows(images, manifest, is_whole)


def check_protocol(config: StudyContinual, manifest: Manifest, uri: str) -> None:
    """ValueError where images have too few classes for the steps, or too few images of a class, a step or a fit."""
    from seit_ray.batches.class_steps import class_steps
    from seit_ray.batches.sampler import num_steps
    from seit_ray.images.labels import class_counts
    from seit_ray.shards.dataset import check_classes

    steps = class_steps(check_classes(manifest.class_names, uri), config.num_steps)
    num_train(manifest, None, uri)
    counts = {split: class_counts(manifest, split) for split in manifest.splits}
    check_classes_of(counts, manifest.class_names or [], uri)
    # Which classes come first, a seed decides; these bounds are of the largest.
    first = int(sum(sorted(counts["train"])[-len(steps[0]) :]))
    with mistakes_of(uri):
        num_steps(min(first, config.max_images or first), config.loop.global_batch_size, config.loop.epochs)
    if config.tokenizer is None and uses_tokens(config):
        check_fit(config.centroid, min(first, config.max_images or first), config.centroid.image_size)
