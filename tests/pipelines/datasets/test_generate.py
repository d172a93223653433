from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store.core.errors import UserError
from pipelines.datasets import generate as module
from pipelines.datasets.generate import (
    DAY,
    DAYS,
    EVENTS,
    START,
    arrivals,
    events_block,
    first_day,
    generate,
)
from pipelines.datasets.generate_catalogue import (
    ITEMS,
    QUERIES,
    Log,
    items_block,
    power_law,
    preferred_groups,
    queries_block,
)

LOG = Log(events=200_000, items=2_003, queries=1_000, seed=7)


def numbers(column: pa.ChunkedArray) -> np.ndarray:
    return np.array([int(name[1:]) for name in column.to_pylist()])


@pytest.fixture(scope="module")
def events() -> dict[str, np.ndarray]:
    table = events_block(LOG, np.arange(LOG.events))
    return {
        "query": numbers(table["query_id"]),
        "item": numbers(table["item_id"]),
        "timestamp": table["timestamp"].to_numpy(),
    }


def make(output: Path, seed: int = 3) -> list[pa.Table]:
    generate(output, events=2_500, items=130, queries=90, seed=seed, progress=lambda line: None)
    return [pq.read_table(output / name) for name in ("events", "items.parquet", "queries.parquet")]


def test_a_log_has_the_layout_and_the_counts_asked_for(tmp_path: Path) -> None:
    output = tmp_path / "log"
    lines: list[str] = []
    made = generate(output, events=2_500, items=130, queries=90, progress=lines.append)
    assert made == output
    assert sorted(path.name for path in output.iterdir()) == [
        "events",
        "items.parquet",
        "queries.parquet",
    ]
    assert "2,500 events, 130 items and 90 queries" in lines[-1]
    for name, schema, rows in (
        ("events/part-00000.parquet", EVENTS, 2_500),
        ("items.parquet", ITEMS, 130),
        ("queries.parquet", QUERIES, 90),
    ):
        table = pq.ParquetFile(output / name).read()
        assert (table.schema.names, table.num_rows) == (schema.names, rows)
        table.validate(full=True)
    events, items, queries = (
        pq.read_table(output / name) for name in ("events", "items.parquet", "queries.parquet")
    )
    assert items["item_id"].to_pylist() == [f"i{number}" for number in range(130)]
    assert queries["query_id"].to_pylist() == [f"q{number}" for number in range(90)]
    assert set(events["item_id"].to_pylist()) <= set(items["item_id"].to_pylist())
    assert set(events["query_id"].to_pylist()) <= set(queries["query_id"].to_pylist())


def test_a_log_is_the_same_whatever_the_size_of_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = make(tmp_path / "whole")
    monkeypatch.setattr(module, "BLOCK", 64)
    blocks = make(tmp_path / "blocks")
    assert len(list((tmp_path / "blocks" / "events").iterdir())) == 40
    for a, b in zip(whole, blocks, strict=True):
        assert a.combine_chunks().equals(b.combine_chunks())
    other = make(tmp_path / "other", seed=4)
    assert all(not a.equals(b) for a, b in zip(whole, other, strict=True))


def test_events_are_in_the_order_of_time_within_the_year(events: dict[str, np.ndarray]) -> None:
    timestamp = events["timestamp"]
    assert (np.diff(timestamp) >= 0).all()
    assert timestamp[0] >= START
    assert START + (DAYS - 1) * DAY < timestamp[-1] < START + DAYS * DAY


def test_the_last_of_a_billion_events_are_made_without_the_others() -> None:
    log = Log(events=1_000_000_000, items=50_000_000, queries=100_000_000, seed=1)
    table = events_block(log, np.arange(log.events - 5_000, log.events))
    item, query = numbers(table["item_id"]), numbers(table["query_id"])
    assert table["timestamp"].to_numpy().min() > START + DAYS * DAY - 600
    assert item.min() >= 0
    assert log.items // 2 < item.max() < log.items
    assert query.min() >= 0
    assert log.queries // 2 < query.max() < log.queries


def test_by_date_the_same_events_lie_in_a_directory_for_each_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = make(tmp_path / "whole")[0]
    monkeypatch.setattr(module, "BLOCK", 1_000)
    output = tmp_path / "days"
    generate(output, events=2_500, items=130, queries=90, seed=3, by_date=True, progress=str)
    days = sorted(path.name for path in (output / "events").iterdir())
    assert days == [f"date={np.datetime64('2024-01-01') + day}" for day in range(DAYS)]
    parts = []
    for day in days:
        files = sorted((output / "events" / day).iterdir())
        events = pa.concat_tables([pq.ParquetFile(file).read() for file in files])
        dates = np.unique(events["timestamp"].to_numpy() // DAY).astype("datetime64[D]")
        assert [f"date={date}" for date in dates] == [day]
        parts.append(events)
    assert pa.concat_tables(parts).combine_chunks().equals(whole.combine_chunks())


def test_no_event_is_on_an_item_before_its_first_day(events: dict[str, np.ndarray]) -> None:
    day = (events["timestamp"] - START) // DAY
    assert (day >= first_day(LOG, events["item"])).all()
    # New items are drawn at all: else the assertion above would hold trivially.
    new = events["item"] >= LOG.items // 2
    assert 0.1 < new.mean() < 0.6


@pytest.mark.parametrize("items", [1, 2, 5, 100, 2_003])
def test_the_first_day_is_the_first_on_which_arrivals_count_the_item(items: int) -> None:
    log = Log(events=1, items=items, queries=1)
    item = np.arange(items)
    size, place = log.group_size(item % log.groups), item // log.groups
    there = np.stack([place < arrivals(size, np.int64(day)) for day in range(DAYS)])
    assert there[-1].all()
    assert (there.argmax(axis=0) == first_day(log, item)).all()
    assert log.group_size(np.arange(log.groups)).sum() == items
    if items == 2_003:
        assert 0.05 < there[0].mean() < 0.12


@pytest.mark.parametrize("size", [1, 2, 1_000])
def test_the_power_law_is_the_density_that_it_says(size: int) -> None:
    draws = power_law((np.arange(400_000) + 0.5) / 400_000, size, 0.9)
    share = np.bincount(draws, minlength=size) / len(draws)
    # The integral of x ** -0.9 over [rank + 1, rank + 2], by the trapezoid rule.
    points = np.linspace(1, size + 1, size * 100 + 1) ** -0.9
    mass = ((points[1:] + points[:-1]) / 2).reshape(size, 100).sum(axis=1)
    np.testing.assert_allclose(share, mass / mass.sum(), atol=1e-5)


def test_few_items_have_a_large_share_and_few_queries_are_very_active(
    events: dict[str, np.ndarray],
) -> None:
    items = np.sort(np.bincount(events["item"], minlength=LOG.items))[::-1]
    assert 0.08 < items[: LOG.items // 100].sum() / LOG.events < 0.5
    queries = np.sort(np.bincount(events["query"], minlength=LOG.queries))[::-1]
    assert 0.05 < queries[: LOG.queries // 100].sum() / LOG.events < 0.2
    assert (items > 0).mean() > 0.9


def test_four_in_five_events_of_a_query_are_in_its_two_groups(
    events: dict[str, np.ndarray],
) -> None:
    first, second = preferred_groups(LOG, events["query"])
    assert (first != second).all()
    group = events["item"] % LOG.groups
    # 0.8 of the events by design, and a few of the others by chance.
    assert 0.8 < ((group == first) | (group == second)).mean() < 0.87
    assert 0.45 < (group == first).mean() < 0.55


def dependence(a: list[object], b: list[object]) -> float:
    """Computes the mutual information of two columns in nats."""
    rows, columns = (np.unique(np.array(x, dtype=str), return_inverse=True)[1] for x in (a, b))
    joint = np.zeros((rows.max() + 1, columns.max() + 1))
    np.add.at(joint, (rows, columns), 1 / len(a))
    chance = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0)
    return float((joint[joint > 0] * np.log(joint[joint > 0] / chance[joint > 0])).sum())


def test_features_tell_of_the_groups_and_some_are_missing() -> None:
    log = Log(events=1, items=40_000, queries=40_000)
    number = np.arange(40_000)
    items, queries = items_block(log, number).to_pydict(), queries_block(log, number).to_pydict()
    group = list(number % log.groups)
    shuffled = list(np.random.default_rng(0).permutation(group))
    group_tag, category_tag = (
        [next((tag for tag in tags if tag.startswith(kind)), "none") for tags in items["tags"]]
        for kind in ("group", "category")
    )
    last_word = [title.split()[-1] for title in items["title"]]
    price = list(np.log2(items["price"]).round())
    first, second = preferred_groups(log, number)
    for feature, of, at_least in (
        (items["brand"], group, 2.0),
        (last_word, group, 2.0),
        (group_tag, group, 2.0),
        (category_tag, items["category"], 1.0),
        (price, group, 0.5),
        (items["category"], group, 2.5),
        (queries["country"], list(first), 0.3),
        (queries["age"], list(second), 0.5),
    ):
        assert dependence(feature, of) > at_least
    assert dependence(items["category"], shuffled) < 0.05
    assert 0.045 < items["brand"].count(None) / len(number) < 0.055
    assert 0.045 < queries["age"].count(None) / len(number) < 0.055
    assert 0.005 < items["tags"].count([]) / len(number) < 0.02
    assert all(len(set(tags)) == len(tags) <= 5 for tags in items["tags"])
    assert min(items["price"]) > 0
    assert min(age for age in queries["age"] if age) >= 16


@pytest.mark.parametrize("items", [1, 2, 3, 4, 9])
def test_tiny_logs_are_made(tmp_path: Path, items: int) -> None:
    generate(tmp_path / "log", events=20, items=items, queries=1, progress=lambda line: None)
    item = numbers(pq.read_table(tmp_path / "log" / "events")["item_id"])
    assert (item >= 0).all()
    assert (item < items).all()


@pytest.mark.parametrize("name", ["events", "items", "queries"])
def test_numbers_below_one_are_refused(tmp_path: Path, name: str) -> None:
    numbers = {"events": 10, "items": 10, "queries": 10, name: 0}
    with pytest.raises(UserError, match=f"^{name} is 0; give a whole number of at least 1.$"):
        generate(tmp_path / "log", **numbers)
    assert list(tmp_path.iterdir()) == []


def test_an_output_in_use_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "mine.txt").write_text("mine")
    with pytest.raises(
        UserError, match=r"log holds something else, such as mine.txt; choose another"
    ):
        generate(tmp_path / "log", events=10, items=10, queries=10)
    assert [path.name for path in tmp_path.rglob("*")] == ["log", "mine.txt"]
    with pytest.raises(UserError, match=r"^cannot write .*is a file; choose another\.$"):
        generate(tmp_path / "log" / "mine.txt" / "log", events=10, items=10, queries=10)
