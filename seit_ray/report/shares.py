"""Shares of 1 as per cent, with their standard errors."""

from __future__ import annotations


def share(value: float | None) -> str:
    """A share in per cent, - where there is none."""
    return "-" if value is None else f"{value:.2%}"


def with_error(value: float, error: float | None) -> str:
    """A share and its standard error, if there is one."""
    return f"{value:.2%}" + ("" if error is None else f" +- {error:.2%}")
