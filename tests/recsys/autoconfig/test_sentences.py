"""Sentences of `recsys init` on the terminal: what it leaves out, and what it did instead."""

from pathlib import Path
from typing import Any

import numpy as np

from tests.support.logs.init_logs import log, said


def test_a_split_that_became_random_is_said(tmp_path: Path) -> None:
    events: dict[str, Any] = log()
    assert "at random" not in said(tmp_path, events)[1]
    del events["timestamp"]
    text = said(tmp_path, events)[1]
    assert "The log has no time. So events are split at random" in text
    assert "name it with --timestamp-column" in text
    assert "at random" not in said(tmp_path, events, split="random_hash")[1]
    visits = log(queries=400, each=1)
    text = said(tmp_path, visits)[1]
    assert "too few to hold the last out. So events are split at random" in text
    assert "name it with" not in text


def test_a_query_is_called_what_the_log_calls_it(tmp_path: Path) -> None:
    visits: dict[str, Any] = log(queries=400, each=1)
    config, text = said(tmp_path, visits)
    names = {config.data.columns.query_id: "session_key", config.data.columns.item_id: "product_no"}
    visits = {names.get(name, name): column for name, column in visits.items()}
    config, text = said(tmp_path, visits)
    columns = config.data.columns
    assert (columns.query_id, columns.item_id) == ("session_key", "product_no")
    assert "Sessions have 1 event each (median)" in text
    assert "quer" not in text
    assert "of 400 sessions and " in (tmp_path / "config.yaml").read_text()


def test_events_of_items_that_are_not_listed_are_said(tmp_path: Path) -> None:
    items = {"item_id": np.arange(45), "colour": ["red", "blue", "green"] * 15}
    text = said(tmp_path, log(), items)[1]
    share = round(100 * (log()["item_id"] >= 45).mean())
    assert f"WARNING: {share} % of events are of items that the table of items lacks" in text
    items = {"item_id": np.arange(60), "colour": ["red", "blue", "green"] * 20}
    assert "lacks" not in said(tmp_path, log(), items)[1]


def test_columns_that_are_no_features_are_said(tmp_path: Path) -> None:
    items = {
        "item_id": range(60),
        "url": [f"https://x.example/{i}" for i in range(60)],
        "nothing": [None] * 60,
        "colour": ["red", "blue"] * 30,
    }
    text = said(tmp_path, log(), items)[1]
    assert "2 of 3 columns of items are no features: url (60 values in 60 rows: a key" in text
    assert "nothing (no row has a value)" in text


def test_properties_of_items_and_outcomes_are_no_context(tmp_path: Path) -> None:
    events: dict[str, Any] = log()
    random = np.random.default_rng(0)
    events |= {
        "brand": [f"b{i % 7}" for i in events["item_id"]],
        "shelf_height": events["item_id"] % 9 + 0.5,
        "hours_played": random.exponential(5, 400),
        "price_paid": random.exponential(20, 400),
        "secs_watched": random.integers(0, 500, 400),
        "review_text": [f"word{i % 9} word{i % 5}" for i in range(400)],
        "device_type": random.choice(["phone", "tv"], 400).tolist(),
    }
    config, text = said(tmp_path, events)
    assert config.features.context == ()
    assert "brand and shelf_height of the events are the same in all events of an item" in text
    assert "give the table with --items" in text
    assert "hours_played, secs_watched may tell how much of an item was wanted" in text
    document = (tmp_path / "config.yaml").read_text()
    _, _, proposal = document.partition("  # context:")
    proposed = [line for line in proposal.splitlines() if line.startswith("  #   - ")]
    names = [line.partition("name: ")[2].partition(",")[0] for line in proposed]
    assert names == ["device_type", "hour", "weekday", "recency"]
    assert "No context is hours_played, price_paid, secs_watched, review_text" in document
