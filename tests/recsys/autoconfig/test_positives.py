"""`recsys init` finds what separates positives, and says what it cannot interpret."""

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipelines.logs.clock import Clock
from pipelines.prepare.cleaning.cleaning import clean_events, event_columns
from pipelines.prepare.cleaning.ids import ids_of
from recsys.config.config import Config
from tests.support.logs.init_logs import log, said

ROWS = 400
RANDOM = np.random.default_rng(0)
IS_POSITIVE = np.arange(ROWS) % 5 == 0
NOW = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)


def kept(config: Config, events: dict[str, Any]) -> np.ndarray:
    """Returns which events `prepare` keeps, [rows]."""
    raw = pa.table(events).select(event_columns(config.data))
    ids = {"query": ids_of(raw["query_id"]), "item": ids_of(raw["item_id"])}
    clean, _, _ = clean_events(
        raw, ids, config.data, Clock("s", True), NOW, np.zeros(len(raw), bool)
    )
    found = np.zeros(len(raw), bool)
    found[clean["row"].to_numpy()] = True
    return found


def with_column(name: str, values: Any) -> dict[str, Any]:
    return {**log(), name: values}


def either(positive: Any, negative: Any, kind: Any = None) -> pa.Array:
    return pa.array([positive if p else negative for p in IS_POSITIVE], kind)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("clicked", either(1, 0, pa.int8())),
        ("label", either(1.0, 0.0)),
        ("is_purchase", either(True, False)),
        ("target", either(1, -1)),
        ("feedback", pa.array([1 if p else -(i % 2) for i, p in enumerate(IS_POSITIVE)])),
        ("liked", either("1", "0")),
        ("converted", either("true", "false")),
        ("interaction", either("yes", "no")),
        ("bought", either("Y", "N")),
        ("clicked", either(1.0, None)),
        ("label", pa.array([1 + i % 2 if p else 0 for i, p in enumerate(IS_POSITIVE)])),
        ("clicks", pa.array([1 + i % 3 if p else 0 for i, p in enumerate(IS_POSITIVE)])),
        ("rating", either(1, 0)),
        ("score", either(1.0, -1.0)),
        ("skipped", either(0, 1)),
        ("is_hidden", either(False, True)),
        ("dislike", either("no", "yes")),
        ("event_type", either("purchase", "dislike")),
        ("action", either("click", "impression")),
        ("event", either("add_to_cart", "remove_from_cart")),
        ("feedback", either("thumbs up", "thumbs down")),
        ("type", either("gekauft", "refund")),
        ("was", either("like", "skip")),
        ("vote", either(1, -1)),
        ("click", pa.array([1 + i % 3 if p else 0 for i, p in enumerate(IS_POSITIVE)])),
        ("thumbs", either("up", "down")),
        ("status", either("delivered", "cancelled")),
        ("sentiment", either("POS", "NEG")),
    ],
)
def test_what_is_no_positive_is_left_out(tmp_path: Path, name: str, values: pa.Array) -> None:
    events = with_column(name, values)
    config, text = said(tmp_path, events)
    assert np.array_equal(kept(config, events), IS_POSITIVE)
    columns = config.data.columns
    assert name in (columns.rating, columns.event_type)
    assert f"{name} tells positives (" in text
    assert "keeps the 80 positives and leaves out the others" in text
    written = (tmp_path / "config.yaml").read_text()
    assert "# 80 events of" in written
    assert f"name: {name}" not in written
    assert (
        " 320" in text or "null in 320" in text or name.startswith(("feedback", "label", "click"))
    )


def test_several_types_are_kept_and_unknown_ones_are_named(tmp_path: Path) -> None:
    kinds = np.array(["view", "cart", "purchase", "refund", "aufgerufen", "dislike"])
    values = kinds[np.arange(ROWS) % 6]
    config, text = said(tmp_path, with_column("event_type", values))
    assert config.data.event_types == dict.fromkeys(["aufgerufen", "cart", "purchase", "view"], 1.0)
    assert "kept without knowing what they mean: aufgerufen" in text
    assert "# unknown to init, so kept" in (tmp_path / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("event_type", ["dislike", "skip"], "WARNING: by event_type (dislike in 200, skip in 200"),
        ("clicked", [0], "WARNING: by clicked (0 in 400 events), no event is a positive"),
        ("is_skip", [True], "WARNING: by is_skip (true in 400 events), no event is a positive"),
        ("event_type", ["view", "purchase"], "every event is a positive; to leave types out"),
        ("behavior_type", [1, 2, 3, 4], "init does not know which types are positives"),
        ("action", ["gesehen", "gekauft"], "init does not know which types are positives"),
        (
            "geklickt",
            [0, 1],
            "geklickt (0 in 200, 1 in 200 events); if so, set data.columns.rating",
        ),
        ("is_mobile", [True, False], "two classes, of which one may be no positives: is_mobile"),
        ("klasse", ["a", "b"], "or data.columns.event_type and data.event_types"),
        ("watch_ratio", list(np.arange(400) / 80), "watch_ratio may tell how much of an item"),
        ("dwell_ms", list(range(400)), "dwell_ms may tell how much of an item was wanted"),
        ("quantity", list(range(-40, 360)), "quantity is 0 or less in 10 % of events"),
        ("stars", ["1", "2", "5"], "is text and not read, so every event is a positive"),
        ("rating", [1, 2, 3, 4, 5], "rating (1 to 5) is not read, so every event is a positive"),
        ("rating", [Decimal(1), Decimal("4.5")], "rating (1 to 4.5) is not read"),
        ("rating", [f"{i / 9:.2f}" for i in range(100)], "rating is text and not read"),
        ("weight", ["0.5", "1.5"], 'weight ("0.5" in 200, "1.5" in 200 events)'),
        ("weight", ["0.5", "1", "1.5"], "weight is text and not read; to use it, cast it"),
        ("user_rating", [1, 2, 3, 4, 5], "user_rating may tell how much of an item was wanted"),
        (
            "click",
            list(range(40)),
            "click is 0 or less in 2 % of events, which may be no positives",
        ),
        ("order_ref", ["a", "b", "c", None], "empty where something may not have been done: order"),
        ("clicked_at", [None, 1.6e9, 1.7e9], "clicked_at (in 34 % of events); if so, add a column"),
    ],
)
def test_what_is_not_used_is_named(
    tmp_path: Path, name: str, values: list[Any], expected: str
) -> None:
    events = with_column(name, [values[i % len(values)] for i in range(ROWS)])
    config, text = said(tmp_path, events)
    assert expected in text
    assert kept(config, events).all()
    if name != "rating":
        written = " ".join((tmp_path / "config.yaml").read_text().replace("#", "").split())
        assert expected in written


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("device", ["phone", "tv", "desk"]),
        ("ad_format", ["display", "video", "audio"]),
        ("slot", [0, 1, 2, 3]),
        ("order", [0, 1, 2, 3]),
        ("clicked", [1]),
    ],
)
def test_other_columns_are_no_news(tmp_path: Path, name: str, values: list[Any]) -> None:
    events = with_column(name, [values[i % len(values)] for i in range(ROWS)])
    config, text = said(tmp_path, events)
    assert text == ""
    assert kept(config, events).all()


def test_a_label_and_types_are_used_together_where_they_agree(tmp_path: Path) -> None:
    clicks = either("click", "impression")
    events = {**with_column("event_type", clicks), "clicked": either(1, 0)}
    config, _ = said(tmp_path, events)
    assert (config.data.columns.rating, config.data.columns.event_type) == ("clicked", "event_type")
    assert np.array_equal(kept(config, events), IS_POSITIVE)
    events["event_type"] = either("skip", "play")
    config, text = said(tmp_path, events)
    assert (config.data.columns.rating, config.data.columns.event_type) == ("clicked", None)
    assert "event_type (play in 320, skip in 80 events) separates positives, too" in text


def test_a_label_of_more_events_is_chosen(tmp_path: Path) -> None:
    bought = (np.arange(ROWS) % 20 == 0).astype(int)
    config, text = said(tmp_path, {**with_column("purchased", bought), "clicked": either(1, 0)})
    assert config.data.columns.rating == "clicked"
    assert "purchased (0 in 380, 1 in 20 events) separates positives, too" in text


def test_figures_are_those_of_positives(tmp_path: Path) -> None:
    """Tests that histories and the split are chosen by the events that stay."""
    events = log(queries=50, each=40)
    rows = len(events["query_id"])
    clicked = (np.arange(rows) % 8 == 0).astype(np.int8)
    config, _ = said(tmp_path, {**events, "clicked": clicked}, split="leave_last_out")
    assert config.data.history.max_length == 10
    assert not any(feature.kind == "id" for feature in config.features.query)  # 5 - 2 events each
    with_all = said(tmp_path, events, split="leave_last_out")[0]
    assert with_all.data.history.max_length == 40


def test_a_label_is_not_taken_for_an_id(tmp_path: Path) -> None:
    raw = log()
    events = {"user_id": raw["query_id"], "thing": raw["item_id"], "clicked": either(1, 0)}
    config, _ = said(tmp_path, {**events, "event_type": either("click", "impression")})
    assert config.data.columns.item_id == "thing"
