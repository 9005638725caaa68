"""Keys that say something and that nothing reads, by what a verb is given: refused, not ignored."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from seit_ray.config import Augment, Finetune, FitTokenizer, Section
from seit_ray.config.augment import OF_MIXING, READ_WITH

OF_TRAINING = ("loop", "optimizer", "workers", "replay")
IMAGE_MIXING = ("mixup_alpha", "cutmix_alpha", *OF_MIXING)  # of augment, on images
OF_TOKENS = ("inputs", "token_dim", "stem_kernel", "stem_stride", "stem_padding", "stem_pixels", "standardize")


class UnreadKey(ValueError):
    """A key, in dotted form, that says something and that nothing reads."""

    def __init__(self, key: str, message: str):
        super().__init__(message)
        self.key = key


def changed(section: Section, name: str) -> bool:
    """Whether a key has another value than its default."""
    field = type(section).model_fields[name]
    return getattr(section, name) != field.get_default(call_default_factory=True)


def said(config: Section, name: str) -> str | None:
    """The first key, in dotted form, that says something at a name, which is a key or a section; None if none does."""
    *sections, last = name.split(".")
    section = functools.reduce(getattr, sections, config)
    value = getattr(section, last)
    if not isinstance(value, Section):
        return name if changed(section, last) else None
    return next(filter(None, (said(config, f"{name}.{key}") for key in type(value).model_fields)), None)


def refuse_unread(config: Section, names: Iterable[str], where: str, hint: str = "leave it out") -> None:
    """ValueError for a key that says something at one of these names, which are keys or sections."""
    for name in names:
        if key := said(config, name):
            raise UnreadKey(key, f"{key} {where}; expected none, since it is not read; {hint}")


def unread_of(augment: Augment, searched: Collection[str] = ()) -> Iterator[tuple[str, str]]:
    """(key, key that would have to be on) of what an augment section says and nothing reads.

    searched: keys that a sweep turns on and off, in dotted form.
    """
    for switches, keys in READ_WITH.items():
        if not any(changed(augment, key) or f"augment.{key}" in searched for key in switches):
            yield from ((key, switches[0]) for key in keys if changed(augment, key))


def without_unread(augment: Augment) -> Augment:
    """An augment section with the default of all that nothing reads, as long as there is some."""
    while found := [key for key, _ in unread_of(augment)]:
        augment = augment.model_copy(update={key: Augment.model_fields[key].get_default() for key in found})
    return augment


def check_augment_keys(config: Section, name: str = "augment", searched: Collection[str] = ()) -> None:
    """ValueError for a key of an augment section, of this name, that nothing reads since what it is about is off."""
    augment: Any = functools.reduce(getattr, name.split("."), config)
    for key, switch in unread_of(augment, searched):
        off = f"with {name}.{switch} {getattr(augment, switch)}"
        refuse_unread(config, [f"{name}.{key}"], off, f"set {name}.{switch}, or leave it out")


def check_fit_keys(config: FitTokenizer) -> None:
    """ValueError for keys of the other kind of tokenizer, or of a training where none is trained."""
    if config.tokenizer == "centroid":
        refuse_unread(config, ("vit_vqgan", *OF_TRAINING), "with tokenizer centroid", "set tokenizer=vit_vqgan")
        return
    refuse_unread(config, ("centroid",), "with tokenizer vit_vqgan")
    if config.vit_vqgan.published:
        read = ("published", "resize")
        own = [f"vit_vqgan.{key}" for key in type(config.vit_vqgan).model_fields if key not in read]
        refuse_unread(
            config, (*own, *OF_TRAINING, "images", "source", "val_fraction", "seed"), "with vit_vqgan.published"
        )


def check_finetune_keys(config: Finetune, *, starts: bool, searched: Collection[str] = ()) -> None:
    """ValueError for keys of the other input, and for those that lack what they are about.

    starts: from another run; searched: as of `check_augment_keys`.
    """
    if not starts:
        of_start = ("init_weights", "model.train_only")
        refuse_unread(config, of_start, "without init_from", "name a finished run in init_from, or leave it out")
    if not config.model.stem_layers and "model.stem_layers" not in searched:
        refuse_unread(config, ("model.stem_width",), "without model.stem_layers", "set them, or leave it out")
    if config.dataset:
        refuse_unread(config, ("source", "pixels"), "with dataset", "give images, or leave it out")
        if config.model.inputs == "codebook":
            refuse_unread(config, ("model.token_dim",), "with model.inputs codebook")
        check_augment_keys(config, searched=searched)
        return
    kept = IMAGE_MIXING if config.task == "classify" else ()
    chain = [f"augment.{key}" for key in type(config.augment).model_fields if key not in kept]
    model = [f"model.{key}" for key in (*OF_TOKENS, "grid_side")]
    refuse_unread(config, [*model, "augment.adapt", *chain], "with images", "give dataset, or leave it out")
    check_augment_keys(config, searched=searched)
    if config.model.dropout:  # of the table of tokens; none is what images have
        refuse_unread(config, ("model.dropout",), "with images", "leave it out")
