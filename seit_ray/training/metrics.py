"""Metrics of a run: metrics.jsonl (one record a line) and TensorBoard events, beside the checkpoints."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from seit_ray.storage import Folder


class MetricsLog:
    """Records of one run. Object stores cannot append, so the file is rewritten at each flush: it is small."""

    def __init__(self, run: Folder, start_step: int):
        self.run = run
        self.records = [r for r in read_metrics(run) if r["step"] <= start_step]  # a killed run may be ahead
        self._local = Path(tempfile.mkdtemp(prefix="seit_ray-")) if run.is_remote else Path(run.uri) / "tensorboard"
        from torch.utils.tensorboard import SummaryWriter  # slow to import: only where a run is written

        self._board = SummaryWriter(str(self._local), purge_step=start_step + 1 if start_step else None)

    def add(self, record: dict[str, Any]) -> None:
        """Append a record; numbers beside `step` become TensorBoard scalars."""
        self.records.append(record)
        for name, value in record.items():
            if name != "step" and isinstance(value, int | float):
                self._board.add_scalar(name, value, record["step"])

    def flush(self) -> None:
        """Write what there is."""
        self.run.write("metrics.jsonl", "".join(json.dumps(r) + "\n" for r in self.records).encode())
        self._board.flush()
        if self.run.is_remote:
            for path in self._local.iterdir():
                self.run.write(f"tensorboard/{path.name}", path.read_bytes())

    def close(self) -> None:
        """Flush and end."""
        self.flush()
        self._board.close()
        if self.run.is_remote:
            shutil.rmtree(self._local)


def read_metrics(run: Folder) -> list[dict[str, Any]]:
    """Records of a run's metrics.jsonl; none when it has none."""
    if not run.exists("metrics.jsonl"):
        return []
    return [json.loads(line) for line in run.read("metrics.jsonl").decode().splitlines()]
