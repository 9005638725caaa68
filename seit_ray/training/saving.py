"""Checkpoints written by a thread while the training goes on."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch

from seit_ray.storage import Folder
from seit_ray.training.checkpoints import save_checkpoint


class CheckpointWriter:
    """Writes one checkpoint at a time; an error comes up at the next `submit`, `wait` or `close`.

    Until a checkpoint's marker stands, the one before it counts: a kill loses steps, never the run.
    """

    def __init__(self, run: Folder, keep: int, on_saved: Callable[[int], None] = lambda step: None):
        self.run, self.keep, self.on_saved = run, keep, on_saved
        self.began = time.monotonic()
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._writing: Future[None] | None = None

    def submit(
        self, tensors: dict[str, torch.Tensor], about: dict[str, Any], after: Future[None] | None = None
    ) -> None:
        """Begin to write; waits for the one before. The tensors are not to be changed afterwards.

        after: what has to be written before, such as the metrics up to here.
        """
        self.wait()
        self.began = time.monotonic()
        self._writing = self._thread.submit(self._write, tensors, about, after)

    def _write(self, tensors: dict[str, torch.Tensor], about: dict[str, Any], after: Future[None] | None) -> None:
        if after is not None:
            after.result()
        save_checkpoint(self.run, tensors, about, self.keep)
        self.on_saved(about["step"])

    def age_s(self) -> float:
        """Seconds since the newest checkpoint was begun."""
        return time.monotonic() - self.began

    def wait(self) -> None:
        """Until all is written."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def close(self) -> None:
        """Wait and end."""
        try:
            self.wait()
        finally:
            self._thread.shutdown()
