"""Numbers of what predictions are compared with: labels that are spread, tokens that are merged. Imports no torch."""

from __future__ import annotations

__all__ = ["check_masked_labels", "check_merges", "check_soft_labels", "stream_step"]


def check_masked_labels(label_smoothing: float, loss: str) -> None:
    """ValueError for a smoothing of masked token modelling outside [0,1), or beside binary cross-entropy."""
    if not 0.0 <= label_smoothing < 1.0 or (label_smoothing and loss == "bce"):
        raise ValueError(
            f"label_smoothing {label_smoothing} with loss {loss!r}; expected 0 <= label_smoothing < 1, "
            "and 0 with 'bce'; set it to 0"
        )


def check_soft_labels(soft_tau: float, loss: str) -> None:
    """ValueError where CCViT's labels are to be spread, and its loss has none."""
    if soft_tau and loss == "two_ce_soft_shared":
        raise ValueError(f"soft_tau {soft_tau} with loss {loss}, which has no labels; expected 0; leave it out")


def check_merges(levels: int, max_removed: int | None, max_iterations: int, num_tokens: int) -> int:
    """How many of the tokens may be merged; ValueError for a schedule of DTM that cannot be."""
    most = num_tokens if max_removed is None else max_removed
    if levels < 1 or max_iterations < 1 or not 0 <= most <= num_tokens:
        raise ValueError(
            f"{levels} levels of at most {most} merges of {num_tokens} tokens in at most {max_iterations} iterations; "
            "expected 1 level and 1 iteration or more, and no more merges than tokens; correct dtm.levels, "
            "dtm.max_removed or dtm.max_iterations"
        )
    return most


def stream_step(grid: tuple[int, int], patch_grid: tuple[int, int]) -> int:
    """Tokens of another grid on a side of each patch; ValueError unless that is one number in both directions."""
    steps = {side // own if side % own == 0 else 0 for side, own in zip(grid, patch_grid, strict=True)}
    step = steps.pop()
    if steps or not step:
        raise ValueError(
            f"grid {grid[0]}x{grid[1]} of the target's tokens for {patch_grid[0]}x{patch_grid[1]} patches; "
            "expected the same, or a multiple in both; take a dataset of such a grid"
        )
    return step
