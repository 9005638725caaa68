"""Trainings of studies, and of all verbs in a row, checked as their verbs do, by tokens that are yet to be made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from seit_ray.config import Augment, Classifier, Dtm, Finetune, Model, Pretrain, StudyStorageCurve, StudyTransfer
from seit_ray.config.loop import check_best
from seit_ray.config.methods import STUDENT, PretrainPixels
from seit_ray.config.transfer import TEACHER, StudyPretraining
from seit_ray.runs.method_checks import target_kind
from seit_ray.studies.methods import EMA_DECAY, METHODS, ON_PIXELS, Method, reads
from seit_ray.verbs.command.finetune_checks import check_numbers as check_classifier
from seit_ray.verbs.command.known_tokens import KnownTokens, about_to_be
from seit_ray.verbs.command.pretrain_checks import check_centroids, check_numbers
from seit_ray.verbs.command.shape_checks import check_whole_patches, mistakes_of
from seit_ray.verbs.command.training import check_loop
from seit_ray.verbs.command.unread import check_augment_keys, check_finetune_keys, said

if TYPE_CHECKING:
    from seit_ray.verbs.quickstart import Parts

TARGETS = {"run": "target_run", "stream": "target_dataset"}
MADE = "made by the study"  # in place of a run or a dataset that is yet to be made


def check_parts(each: Parts) -> None:
    """ValueError for what a training would refuse, by the tokens that the phases before it are yet to make."""
    fit, last = each["fit_tokenizer"], each["finetune"]
    for part in (each.get("pretrain"), last):
        if part is not None:
            check_loop(part.loop, part.workers.num_workers)
    check_whole_patches(fit)
    sizes = fit.centroid
    tokens = KnownTokens.of_centroids("the tokens", sizes.image_size, sizes.patch_size, sizes.codebook_size)
    begun = None
    if "pretrain" in each:
        with mistakes_of("pretrain"):
            check_numbers(each["pretrain"], tokens)
        begun = about_to_be(each["pretrain"], tokens)
    with mistakes_of("finetune"):
        check_finetune_keys(last, starts=bool(begun))
        check_classifier(last, tokens, begun)


def check_curve(config: StudyStorageCurve) -> None:
    """ValueError where an arm's classifier would refuse its tokens, or sizes do not go together."""
    check_augment_keys(config)
    check_loop(config.loop)
    for patch in config.tokens.patch_sizes:
        for codes in config.tokens.codebook_sizes:
            tokens = KnownTokens.of_centroids("the study's tokens", config.pixels.image_size, patch, codes)
            check_on_tokens(config, config.augment, stem_of(config.model, config.pixels.patch_size // patch), tokens)


def check_on_tokens(config: Any, augment: Augment, model: Classifier, tokens: KnownTokens) -> None:
    """ValueError where a classifier, with this augmentation, does not fit tokens."""
    made = Finetune(dataset=MADE, run=MADE, storage=config.storage)
    check_classifier(made.model_copy(update={"model": model, "augment": augment}), tokens, None)


def stem_of(model: Classifier, kernel: int, **more: Any) -> Classifier:
    """A classifier whose stem cuts tokens into the patches of the pixels."""
    return model.model_copy(update={"stem_kernel": kernel, **more})


def check_transfer(config: StudyTransfer) -> None:
    """ValueError for what no table reads, and where a row's pre-training or a cell's classifier would be refused."""
    for part in ("supervised", "finetune"):
        check_augment_keys(config, f"{part}.augment")
    for part, is_read in parts_read(config).items():
        if is_read:
            check_loop(getattr(config, part).loop)
    size, patch = config.pixels.image_size, config.tokenizer.patch_size
    kernel = config.pixels.patch_size // patch
    tokens = KnownTokens.of_centroids("the study's tokens", size, patch, config.tokenizer.codebook_size)
    for row in config.rows:
        with mistakes_of(f"row {row}"):
            if row in METHODS:
                check_row(config, METHODS[row], kernel, tokens)
            if row == "supervised":
                check_on_tokens(config, config.supervised.augment, stem_of(config.model, kernel), tokens)
            if row != ON_PIXELS and {"finetune_tokens", "finetune_new_tokens"} & set(config.columns):
                on_ccvit = row in METHODS and METHODS[row].objective != "mtm"
                model = stem_of(config.model, kernel, **({"encoder": "beit"} if on_ccvit else {}), **reads(row))
                check_on_tokens(config, config.finetune.augment, model, tokens)


def check_row(config: StudyTransfer, method: Method, kernel: int, tokens: KnownTokens) -> None:
    """ValueError where the pre-training of a row would be refused."""
    part, objective = config.pretrain, method.objective
    model = Model(**{name: getattr(config.model, name) for name in Model.model_fields})
    given: dict[str, Any] = {"model": model.model_copy(update={"stem_kernel": kernel}), "loop": part.loop}
    given |= {name: getattr(part, name) for name in sections_of(part, method)}
    if method.morph:
        given |= morphing_of(part, method)
        objective = "dtm" if objective == "mtm" else objective
    if method.on_images:
        seen = {name: getattr(config.pixels, name) for name in ("image_size", "patch_size")}
        given |= {"dataset": None, "images": config.images, "pixels": PretrainPixels(**seen)}
    check_best(part.loop, method.objective)
    made = Pretrain(dataset=MADE, run=MADE, storage=config.storage).model_copy(update={**given, "objective": objective})
    if method.on_images and objective == "ccvit":  # its tokenizer is the study's
        check_centroids(made, tokens.grid, tokens.num_codes)
    else:
        check_numbers(made, None if method.on_images else tokens)


def sections_of(part: StudyPretraining, method: Method) -> list[str]:
    """Sections that a row reads, beside those of all rows and that of morphing."""
    augments = not method.on_images and not (method.objective == "ccvit" and part.ccvit.sees == "pixels")
    own = {"mtm": ["masking"], "ccvit": ["ccvit"]}.get(method.objective, [])
    return own + (["augment"] if augments else [])


def morphing_of(part: StudyPretraining, method: Method) -> dict[str, Any]:
    """What a row makes of the section dtm, and of the loop, as `studies.transfer_stages.morphed` does."""
    own: dict[str, Any] = {"weight": 1.0 if part.dtm.weight is None else part.dtm.weight}
    if method.morph != "set":
        own |= {"target": method.morph, **{name: MADE for kind, name in TARGETS.items() if kind == method.morph}}
    if not method.on_images:
        own |= {name: Dtm.model_fields[name].default for name in (*STUDENT, *TEACHER)}
    dtm, loop = part.dtm.model_copy(update=own), part.loop
    if target_kind(dtm.settings(), on_tokens=not method.on_images) == "average":
        loop = loop.model_copy(update={"ema_decay": loop.ema_decay or EMA_DECAY})
    return {"dtm": dtm, "loop": loop}


def parts_read(config: StudyTransfer) -> dict[str, bool]:
    """Training -> whether a row, or a column, is trained so."""
    rows = set(config.rows)
    return {
        "pretrain": bool(rows & set(METHODS)),
        "supervised": bool(rows & {"supervised", ON_PIXELS}),
        "finetune": any(column.startswith("finetune") for column in config.columns),
    }


def unread_parts(config: StudyTransfer) -> Iterator[tuple[str, str]]:
    """(section or key that says something, why none of the rows, or columns, that are given reads it).

    A recipe says what all of its rows read, and some of them may be left out over it: these are told, not refused.
    """
    rows, columns = (f"as none of the {name} {', '.join(getattr(config, name))}" for name in ("rows", "columns"))
    is_read = parts_read(config)
    for name, found in is_read.items():
        if not found and said(config, name):
            yield f"section {name}", f"{columns if name == 'finetune' else rows} is trained so"
    methods = [METHODS[row] for row in config.rows if row in METHODS]
    read = {name for method in methods for name in [*sections_of(config.pretrain, method), "dtm" * bool(method.morph)]}
    for name in ("masking", "augment", "ccvit", "dtm"):
        if is_read["pretrain"] and name not in read and said(config, f"pretrain.{name}"):
            yield f"section pretrain.{name}", f"{rows} reads it"
    if "dtm" in read and "dtm_images" not in config.rows:
        of_images = [f"pretrain.dtm.{name}" for name in (*STUDENT, *TEACHER)]
        yield from ((key, "as the row dtm_images alone reads it") for key in of_images if said(config, key))
    if config.second_codebook_size and "dtm_stream" not in config.rows:
        yield "second_codebook_size", "as the row dtm_stream alone reads it"
