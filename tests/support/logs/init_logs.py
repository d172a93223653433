"""Small synthetic logs for the tests of `recsys init`."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from feature_store.core.errors import UserError
from recsys.autoconfig.init import init_config
from recsys.config.config import Config
from recsys.config.load import load_config

YEAR = 365 * 86_400
START = 1_600_000_000


def write(path: Path, columns: dict[str, Any]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return str(path)


def log(queries: int = 40, each: int = 10, items: int = 60, seed: int = 0) -> dict[str, np.ndarray]:
    """Draws events of queries that come back over one year, [queries * each] rows."""
    rng = np.random.default_rng(seed)
    return {
        "query_id": np.repeat(np.arange(queries), each),
        "item_id": rng.integers(0, items, queries * each),
        "timestamp": START + rng.integers(0, YEAR, queries * each),
    }


def init(
    directory: Path, events: Any, items: Any = None, queries: Any = None, **options: Any
) -> Config:
    """Writes the tables and a configuration for them, and checks that it loads unchanged."""
    paths = {
        name: write(directory / f"{name}.parquet", table) if isinstance(table, dict) else table
        for name, table in (("events", events), ("items", items), ("queries", queries))
    }
    output = directory / "config.yaml"
    config = init_config(*paths.values(), output, overwrite=True, **options)
    assert load_config(output) == config
    return config


def said(*arguments: Any, **options: Any) -> tuple[Config, str]:
    """Returns the configuration, and the sentences for the terminal, one a line."""
    with io.StringIO() as text:
        config = init(*arguments, console=Console(file=text), **options)
        return config, text.getvalue()


def refusal(*arguments: Any, **options: Any) -> str:
    with pytest.raises(UserError) as error:
        init(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)
