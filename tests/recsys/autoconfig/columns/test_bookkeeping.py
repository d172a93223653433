"""Columns that describe rows are no features, whatever wrote them; measures are."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.support.logs.init_logs import init, log, said, write

ITEMS = 60
RANDOM = np.random.default_rng(3)
ORDER = RANDOM.permutation(ITEMS)
HOURS = 1_700_000_000 + 3_600 * np.arange(ITEMS)


def features(directory: Path, **columns: Any) -> set[str]:
    """Returns the names of the item features of a table with these columns and a genre."""
    genre = RANDOM.choice(["rock", "jazz", "folk"], ITEMS)
    config = init(directory, log(), {"item_id": np.arange(ITEMS), "genre": genre, **columns})
    return {feature.name for feature in config.features.item} - {"item_id", "genre"}


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("__index_level_0__", np.repeat([0, 1], ITEMS // 2)),
        ("Unnamed: 0", np.sort(RANDOM.choice(10_000, ITEMS, replace=False))),
        ("Unnamed: 0.1", ORDER.astype(float)),
        ("...1", np.arange(1, ITEMS + 1)),
        ("X", np.arange(1, ITEMS + 1)),
        ("_c0", [str(i) for i in range(ITEMS)]),
        ("index", ORDER * 7),
        ("row_number", np.arange(ITEMS)),
        ("lineNo", np.arange(5, 5 + ITEMS)),
        ("_id", RANDOM.choice(10**6, ITEMS, replace=False)),
        ("record_id", RANDOM.choice(10**6, ITEMS, replace=False)),
        ("_ingested_at", HOURS),
        ("_ingested_at", np.full(ITEMS, 1_700_000_000)),
        ("etl_batch", RANDOM.integers(0, 4, ITEMS)),
        ("loaded_at", 1000 * np.sort(HOURS + RANDOM.integers(0, 99, ITEMS))),
        ("_fivetran_synced", [f"2026-01-0{i % 9 + 1}" for i in range(ITEMS)]),
        ("kafka_offset", 10**6 + np.cumsum(RANDOM.integers(1, 99, ITEMS))),
        ("lfd", np.arange(ITEMS) + 1),
        ("shuffled", ORDER),
        ("barcode", RANDOM.integers(4 * 10**12, 5 * 10**12, ITEMS)),
        ("key", [f"{RANDOM.integers(2**62):016x}-{i:04d}" for i in range(ITEMS)]),
    ],
)
def test_rows_are_not_described(tmp_path: Path, name: str, values: Any) -> None:
    assert features(tmp_path, **{name: values}) == set()
    assert f"# {name} is left out" in (tmp_path / "config.yaml").read_text().replace('"', "")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("year", np.arange(1960, 1960 + ITEMS)),
        ("anno", np.arange(1960, 1960 + ITEMS)),
        ("price", np.sort(RANDOM.choice(10_000, ITEMS, replace=False))),
        ("preis", np.sort(RANDOM.choice(10_000, ITEMS, replace=False))),
        ("views", np.arange(ITEMS)),
        ("rank", ORDER + 1),
        ("age", ORDER + 20),
        ("alter", ORDER + 20),
        ("released_at", HOURS),
        ("erschienen", RANDOM.permutation(HOURS)),
        ("num_pages", np.arange(ITEMS) + 100),
        ("index", RANDOM.integers(0, 5, ITEMS)),
        ("stock", ORDER),
        ("_price", ORDER * 3),
        ("batch_size", RANDOM.choice(100, ITEMS, replace=False)),
        ("population", RANDOM.integers(10**5, 10**12, ITEMS)),
    ],
)
def test_measures_stay(tmp_path: Path, name: str, values: Any) -> None:
    assert features(tmp_path, **{name: values}) == {name}


@pytest.mark.parametrize("is_shuffled", [False, True])
def test_an_index_that_pandas_wrote_is_none_of_either_table(
    tmp_path: Path, is_shuffled: bool
) -> None:
    """Tests whole frames of pandas, whose index is called by a name that only its metadata tell."""
    events = pd.DataFrame(log()).query("item_id > 3")
    items = pd.DataFrame({"item_id": range(ITEMS), "price": RANDOM.random(ITEMS)})
    users = pd.DataFrame({"query_id": range(40), "age": RANDOM.integers(18, 80, 40)})
    frames = {"events": events, "items": items.rename_axis("nummer"), "users": users.iloc[::-1]}
    paths = []
    for name, frame in frames.items():
        frame = frame.sample(frac=1, random_state=0) if is_shuffled else frame
        frame.to_parquet(tmp_path / f"{name}.parquet", index=True)
        paths.append(str(tmp_path / f"{name}.parquet"))
    config, text = said(tmp_path, *paths, split="random_hash")
    assert [feature.name for feature in config.features.item] == ["item_id", "price"]
    assert [feature.name for feature in config.features.query] == ["query_id", "age"]
    assert "__index_level_0__ of events and users (an index)" in text
    assert "nummer of items (an index)" in text
    assert "__index_level_0__," not in (tmp_path / "config.yaml").read_text()


def test_an_index_that_is_the_id_stays(tmp_path: Path) -> None:
    items = pd.DataFrame({"price": RANDOM.random(ITEMS)}, index=pd.RangeIndex(ITEMS, name="x"))
    items.index = pd.Index(np.arange(ITEMS), name="item_id")
    items.to_parquet(tmp_path / "items.parquet")
    config = init(tmp_path, log(), str(tmp_path / "items.parquet"))
    assert [feature.name for feature in config.features.item] == ["item_id", "price"]


def test_an_index_of_the_events_is_neither_id_nor_context(tmp_path: Path) -> None:
    raw = log()
    events = {
        "user_id": raw["query_id"],
        "film": raw["item_id"],
        "timestamp": raw["timestamp"],
        "rowid": np.arange(400),
        "_ingested_at": 1_700_000_000 + np.arange(400),
    }
    config, text = said(tmp_path, events)
    assert config.data.columns.item_id == "film"
    assert "rowid of events (a number of rows)" in text
    written = (tmp_path / "config.yaml").read_text()
    assert "name: rowid" not in written
    assert "name: _ingested_at" not in written
    assert said(tmp_path, write(tmp_path / "plain.parquet", log()))[1] == ""
