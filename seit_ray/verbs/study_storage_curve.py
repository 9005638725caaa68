"""Storage against accuracy: every arm made and trained, bytes counted; the same output continues it.

seit-ray study storage_curve images=photos/ output=runs/curve
"""

from __future__ import annotations

from dataclasses import replace

from seit_ray.config import StudyStorageCurve, StudyTokenizer
from seit_ray.progress import Progress, silent
from seit_ray.storage.output import refuse_overlap
from seit_ray.studies.image_set import ImageSet, check_splits, check_steps
from seit_ray.studies.storage_curve import Curve, CurveTraining
from seit_ray.studies.study import Study
from seit_ray.verbs.command.image_checks import check_fit
from seit_ray.verbs.command.places import Rows, folder_of, looked_at, manifest_rows
from seit_ray.verbs.command.study import check_same_images, closing_rows, run_trials, study_of, study_rows
from seit_ray.verbs.command.study_checks import check_curve

NAME = "study_storage_curve"


def check(config: StudyStorageCurve) -> Rows:
    """The images, the arms, what is done, and how many trials run at a time."""
    images, study = look(config), study_of_curve(config)
    pixels = config.pixels
    check_same_images(study, config, val_fraction=pixels.val_fraction, seed=pixels.seed, only_look=True)
    return [*images, *study_rows(study, config)]


def study_storage_curve(config: StudyStorageCurve, progress: Progress = silent) -> Rows:
    """Run what is missing, and write table, picture and report; returns the table to print."""
    look(config)
    study, pixels = study_of_curve(config), config.pixels
    check_same_images(study, config, val_fraction=pixels.val_fraction, seed=pixels.seed)
    outcomes = run_trials(study, config, progress)
    from seit_ray.studies.storage_report import report_curve, terminal_rows
    from seit_ray.verbs.command.record import record_of

    name = f"seit-ray study storage_curve on {config.images}"
    lines, words = report_curve(study.folder, outcomes, name, record_of(NAME, config))
    return [*terminal_rows(lines, words), *closing_rows(study, outcomes)]


def look(config: StudyStorageCurve) -> Rows:
    """The images, as far as a moment shows them; ValueError for what would end every trial."""
    from seit_ray.images.recode import check_writes

    check_curve(config)
    for kind in ("jpeg", "webp", "avif"):
        if getattr(config.pictures, kind):
            check_writes(kind)
    images, pixels = folder_of(config.images, config.storage), config.pixels
    refuse_overlap(folder_of(config.output, config.storage), images, "images")
    with looked_at(images, config.source, val_fraction=pixels.val_fraction, seed=pixels.seed) as (manifest, is_whole):
        if is_whole:
            check_splits(manifest, images.uri)
            check_steps(manifest, pixels.max_images, config.loop.settings(), images.uri)
            num_train = manifest.splits["train"].num_images
            check_fits(config, min(num_train, pixels.max_images or num_train))
        return manifest_rows(images, manifest, is_whole)


def check_fits(config: StudyStorageCurve, num_train: int) -> None:
    """ValueError where so many images have fewer patches than an arm of tokens has centroids."""
    tokens = config.tokens
    sample = {name: getattr(tokens, name) for name in ("sample_images", "sample_patches")}
    for patch in tokens.patch_sizes:
        for codes in tokens.codebook_sizes:
            check_fit(
                StudyTokenizer(patch_size=patch, codebook_size=codes, **sample), num_train, config.pixels.image_size
            )


def study_of_curve(config: StudyStorageCurve) -> Study:
    """All trials."""
    folder = folder_of(config.output, config.storage)
    study = study_of(NAME, config, folder, ())
    # these say which arms there are, and are told as such
    own = ("pictures.", "tokens.codebook_sizes", "tokens.patch_sizes", "budgets", "equal")
    training = {key: value for key, value in study.decided_by.items() if not key.startswith(own)}
    pixels = config.pixels.settings()
    adapt = config.augment.adapt_run
    curve = Curve(
        folder=folder,
        data=ImageSet(
            folder_of(config.images, config.storage),
            config.source.settings(),
            pixels.val_fraction,
            pixels.seed,
            pixels.max_images,
        ),
        pictures=config.pictures.settings(),
        tokens=config.tokens.settings(),
        budgets=config.budgets,
        equal=config.equal,
        training=CurveTraining(
            model=config.model.settings(),
            pixels=pixels,
            augment=config.augment.settings(),
            label_smoothing=config.label_smoothing,
            loop=config.loop.settings(),
            optimizer=config.optimizer.settings(),
            adapt_run=folder_of(adapt, config.storage) if adapt else None,
        ),
        seeds=config.seeds,
        decided_by=training,
    )
    return replace(study, trials=tuple(curve.trials()), decided_by=training)
