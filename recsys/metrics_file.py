"""The lines of metrics that a training leaves, which progress, MLflow and the report read."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch.distributed as dist

from feature_store.core.files import write_text

METRICS_FILE = "metrics.jsonl"


class MetricsFile:
    """JSON lines, `{"step": ..., <metric>: ...}`, by rank 0; a resumed training goes on with it.

    Args:
        path: Of the file.
        step: Lines after this step are cut off: these steps will be done again.
    """

    def __init__(self, path: Path, step: int) -> None:
        self._path = path if dist.get_rank() == 0 else None
        if self._path is not None:
            old = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
            kept = [line for line in old if json.loads(line)["step"] <= step]
            write_text(path, "".join(f"{line}\n" for line in kept))

    def append(self, step: int, values: Mapping[str, float | None]) -> None:
        """Adds a line; on ranks other than 0 nothing happens."""
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, **values}) + "\n")
