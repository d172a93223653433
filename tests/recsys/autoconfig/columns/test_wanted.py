"""Columns that the user of `recsys init` names, and problems that are told all at once."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from recsys.cli import app
from tests.support.logs.init_logs import init, log, refusal, write


def foreign() -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Returns a log in which no name says what an id is, and two columns could be either."""
    raw = log()
    events = {
        "wer": raw["query_id"] + 100,
        "was": raw["item_id"],
        "wo": np.arange(400) % 50,
        "wann": raw["timestamp"],
        "gebucht": raw["timestamp"] + 86_400 * 30,
    }
    items = {"nr": range(60), "alt_nr": range(60, 120), "farbe": ["rot", "blau"] * 30}
    people = {"kennung": np.arange(40) + 100, "land": ["de", "fr"] * 20}
    return events, items, people


def test_every_column_can_be_named(tmp_path: Path) -> None:
    config = init(
        tmp_path,
        *foreign(),
        query_column="wer",
        item_column="was",
        timestamp="gebucht",
        items_id="nr",
        queries_id="kennung",
    )
    columns = config.data.columns
    assert (columns.query_id, columns.item_id, columns.timestamp) == ("wer", "was", "gebucht")
    assert (columns.query_key, columns.item_key) == ("kennung", "nr")
    assert "as given by --item-column" in (tmp_path / "config.yaml").read_text()


def test_what_is_named_comes_before_what_is_found(tmp_path: Path) -> None:
    events = log() | {"session_id": np.arange(400) % 80, "product_id": np.arange(400) % 30}
    config = init(tmp_path, events, query_column="session_id", item_column="product_id")
    assert config.data.columns.query_id == "session_id"
    assert config.data.columns.item_id == "product_id"
    # The column that would be the id of one side may be that of the other.
    config = init(tmp_path, events, query_column="item_id", item_column="query_id")
    assert (config.data.columns.query_id, config.data.columns.item_id) == ("item_id", "query_id")


def test_a_key_may_be_named_where_the_events_call_the_ids_otherwise(tmp_path: Path) -> None:
    items = {"old": range(60), "id": range(1, 61), "colour": ["red", "blue"] * 30}
    config = init(tmp_path, log(), items, items_id="old")
    assert config.data.columns.item_key == "old"
    disjoint = refusal(tmp_path, log(), items | {"old": range(600, 660)}, items_id="old")
    assert "'old' holds '600' in the items" in disjoint
    assert "--item-column and --items-id" in disjoint


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    events, items, people = foreign()
    told = refusal(
        tmp_path,
        events,
        items,
        people,
        query_column="wär",
        item_column="was",
        items_id="farbe_nr",
        queries_id="kenung",
        timestamp="wan",
    )
    assert told.startswith("4 problems: (1) ")
    for part in (
        "--query-column wär: the events have no such column, but wer, was, wo, wann, gebucht. "
        "Did you mean wer?",
        "--items-id farbe_nr: the items have no such column",
        "--queries-id kenung: the queries have no such column, but kennung, land. Did you mean "
        "kennung?",
        "--timestamp-column wan: the events have no such column",
    ):
        assert part in told
    neither = refusal(tmp_path, {"a": [1, 2], "b": [2, 3], "c": [3, 4]})
    assert "name the column with --query-column" in neither
    assert "name the column with --item-column" in neither


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"query_column": "score"}, "--query-column score: the column is double; expected strings"),
        ({"query_column": "item_id", "item_column": "item_id"}, "are both item_id"),
        ({"items_id": "nr"}, "--items-id names a column of the items; give these with --items"),
    ],
)
def test_columns_that_cannot_be_ids(tmp_path: Path, options: dict[str, str], told: str) -> None:
    assert told in refusal(tmp_path, log() | {"score": np.linspace(0.1, 0.9, 400)}, **options)


def test_tables_that_cannot_be_opened_are_told_at_once(tmp_path: Path) -> None:
    told = refusal(tmp_path, log(), str(tmp_path / "none"), str(tmp_path / "nowhere"))
    assert told.startswith("2 problems: ")
    assert "none" in told
    assert "nowhere" in told


def test_the_command_takes_them(tmp_path: Path) -> None:
    events, items, people = foreign()
    tables = {"events": events, "items": items, "queries": people}
    paths = {name: write(tmp_path / f"{name}.parquet", table) for name, table in tables.items()}
    arguments = ["init", "-o", str(tmp_path / "c.yaml")]
    arguments += [word for name, path in paths.items() for word in (f"--{name}", path)]
    arguments += ["--query-column", "wer", "--item-column", "was", "--items-id", "nr"]
    arguments += ["--queries-id", "kennung", "--timestamp-column", "gebucht"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "timestamp: gebucht" in (tmp_path / "c.yaml").read_text()
    arguments[arguments.index("--timestamp-column")] = "--timestamp"
    assert CliRunner().invoke(app, [*arguments, "--overwrite"]).exit_code == 0
