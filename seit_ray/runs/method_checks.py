"""What must fit before a pre-training by CCViT or DTM begins. Imports no torch, so that a dry run can ask."""

from __future__ import annotations

from seit_ray.runs.method_settings import DtmSettings

__all__ = ["check_dtm", "target_kind"]


def target_kind(dtm: DtmSettings, *, on_tokens: bool) -> str:
    """What morphing compares with: as set, else the moving average on tokens and a teacher on images."""
    return dtm.target or ("average" if on_tokens else "teacher")


def check_dtm(
    dtm: DtmSettings,
    *,
    objective: str,
    on_tokens: bool,
    has_codebook: bool,
    ema_decay: float,
    has_run: bool,
    has_dataset: bool,
    has_weights: bool,
) -> str:
    """The kind of target; ValueError when the loss has none that fits the objective and the data.

    `on_tokens`: whether the model reads stored tokens as they are.
    """
    kind = target_kind(dtm, on_tokens=on_tokens)
    if kind == "average" and not ema_decay:
        raise ValueError(
            "dtm.target average with loop.ema_decay 0; expected a moving average; set loop.ema_decay=0.996, or another "
            "dtm.target"
        )
    if kind == "codebook" and not has_codebook:
        raise ValueError("dtm.target codebook on images alone; expected tokens; set another dtm.target, or dataset")
    named = {"run": ("target_run", has_run), "stream": ("target_dataset", has_dataset)}
    if kind in named and not named[kind][1]:
        raise ValueError(f"dtm.target {kind} without dtm.{named[kind][0]}; expected a folder; name one")
    if kind in named and not on_tokens:
        raise ValueError(
            f"dtm.target {kind} of a model that reads pixels; expected one that reads stored tokens; set another target"
        )
    if kind == "teacher" and on_tokens:
        raise ValueError("dtm.target teacher of stored tokens; expected images; set another dtm.target, or images")
    if kind == "teacher" and not (dtm.teacher and has_weights):
        raise ValueError(
            f"dtm.target teacher with dtm.teacher {dtm.teacher}; expected a timm model and a file of its weights; set "
            "dtm.teacher and dtm.teacher_weights"
        )
    for name, wanted, given in (
        ("target_run", "run", has_run),
        ("target_dataset", "stream", has_dataset),
        ("teacher_weights", "teacher", has_weights),
        ("teacher", "teacher", bool(dtm.teacher)),
    ):
        if given and kind != wanted:
            raise ValueError(f"dtm.{name} with dtm.target {kind}; expected {wanted}; set dtm.target={wanted}")
    check_loss(dtm, kind, objective, on_tokens)
    return kind


def check_loss(dtm: DtmSettings, kind: str, objective: str, on_tokens: bool) -> None:
    """ValueError for a loss that the objective has no predictions for, and for numbers that say nothing with it."""
    if dtm.loss != "features" and (objective == "ccvit" or not on_tokens):
        raise ValueError(
            f"dtm.loss {dtm.loss} with objective {objective}{'' if on_tokens else ' on images'}; expected features; "
            "only masked token modelling tells the codes of all patches; set dtm.loss=features"
        )
    if dtm.on == "codes" and kind != "codebook":
        raise ValueError(
            f"dtm.on codes with dtm.target {kind}; expected codebook, since others are of patches; set dtm.on=patches"
        )
    plain = DtmSettings()
    if dtm.loss != "features":
        moved = [name for name in ("distance", "normalize_target") if getattr(dtm, name) != getattr(plain, name)]
    else:
        moved = ["label_share"] if dtm.label_share != plain.label_share else []
    if dtm.loss == "histograms" and dtm.label_share != plain.label_share:
        moved.append("label_share")
    if moved:
        raise ValueError(
            f"dtm.{moved[0]} {getattr(dtm, moved[0])} with dtm.loss {dtm.loss}, which does not read it; expected it "
            "left out; remove it"
        )
