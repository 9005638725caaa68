"""Whether the data have what the best weights are to be chosen by. Imports no torch, so that a dry run can ask."""

from __future__ import annotations

__all__ = ["check_kept"]

OF_LABELS = ("probe_linear_top1", "probe_knn_top1")


def check_kept(keep_best: str | None, *, has_val: bool, has_labels: bool, where: str) -> None:
    """ValueError where `loop.keep_best` names a figure of a val split, or of labels, that the data lack."""
    metric = (keep_best or "").removeprefix("ema_")
    if not has_val and (metric.startswith("val_") or metric in OF_LABELS):
        raise ValueError(
            f"loop.keep_best {keep_best} of {where}, which has no val split; expected one to evaluate on; hold some "
            "images out, or leave loop.keep_best out"
        )
    if not has_labels and metric in OF_LABELS:
        raise ValueError(
            f"loop.keep_best {keep_best} of {where}, which has no labels of two classes; expected some to probe with; "
            "take another metric, or leave loop.keep_best out"
        )
