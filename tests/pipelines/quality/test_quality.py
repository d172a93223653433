"""The quality report: figures against hand arithmetic, and drift where there is any."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from feature_store.core.columns import Dense, Jagged, write_columns
from feature_store.core.files import write_parquet
from feature_store.encoding.vocabulary import Vocabulary
from feature_store.schema import FeatureSchema
from pipelines.prepared.manifest import Counts, PreparedManifest
from pipelines.prepared.query_state import QueryState
from pipelines.quality.checks import quality_checks
from pipelines.quality.drift import Drift, by_severity, drift
from pipelines.quality.page import quality_page, share_of
from pipelines.quality.quality import Quality, quality, read_quality
from pipelines.quality.stability import stability_index
from pipelines.quality.write import write_quality
from pipelines.reports.html import render_page
from pipelines.settings import DataConfig
from pipelines.statistics.popularity import popularity
from pipelines.statistics.slices import SliceBounds, events_by_slice, item_slices
from pipelines.statistics.summaries import Summary, summarise
from tests.support.outline import Outline

SCHEMA = FeatureSchema.model_validate(
    {
        "item": [
            {"name": "item_id", "kind": "id", "dim": 4},
            {"name": "genre", "kind": "categorical", "dim": 4},
            {"name": "brand", "kind": "categorical", "dim": 4, "hash_buckets": 5},
            {"name": "price", "kind": "numeric", "dim": 4},
        ]
    }
)


def bags(*rows: list[int]) -> Jagged:
    values = np.array([value for row in rows for value in row], np.int32)
    return Jagged.from_lengths(values, np.array([len(row) for row in rows], np.int64))


def vocabulary(tokens: list[str], counts: list[int]) -> Vocabulary:
    return Vocabulary(pa.array(tokens), pa.array(counts, pa.int64()), 0)


def write_prepared(directory: Path) -> None:
    """Writes four current items and one that is gone, and three queries, one without events."""
    frequency = {"train": [7, 1, 0, 0, 0], "validation": [1, 0, 1, 0, 0], "test": [0, 0, 0, 0, 0]}
    table = {"item_id": list("abcde"), **{k: pa.array(v, pa.int64()) for k, v in frequency.items()}}
    write_parquet(directory / "statistics" / "item_frequency.parquet", pa.table(table))
    vocabulary(list("abcde"), [1, 1, 1, 1, 0]).save(directory / "vocabulary" / "item_id.parquet")
    vocabulary(list("xyz"), [1, 1, 1]).save(directory / "vocabulary" / "query_id.parquet")
    empty = bags([], [], [])
    QueryState(bags([0, 1], [0], []), bags([0, 2], [], []), empty, empty, empty).save(
        directory / "queries" / "state.arrow"
    )
    columns = {
        "item_id": bags([0], [1], [2], [3], [4]),
        "genre": bags([1], [], [0], [2], []),
        "brand": bags([1], [2], [3], [], []),
        "price": Dense(np.zeros((5, 1), np.float32), np.array([True, True, False, False, False])),
    }
    write_columns(directory / "items" / "features.arrow", columns)


def log(seed: int, rows: int = 3000, **changes: Any) -> dict[str, Summary]:
    """Summarises synthetic events and items; `changes` replaces columns of items (None: drops)."""
    random = np.random.default_rng(seed)
    times = pa.array(1_700_000_000 + random.integers(0, 10**6, rows), pa.timestamp("s", "UTC"))
    events = {
        "query_id": [f"q{i}" for i in random.integers(0, 400, rows)],
        "item_id": [f"i{i}" for i in random.zipf(1.5, rows) % 300],
        "timestamp": times,
    }
    items = {
        "item_id": [f"i{i}" for i in range(rows)],
        "genre": pa.array([f"g{i}" for i in random.zipf(2.0, rows) % 20]),
        "price": np.exp(random.normal(size=rows)),
        "tags": [[f"t{j}" for j in random.integers(0, 50, n)] for n in random.integers(0, 3, rows)],
        **changes,
    }
    kept = {name: values for name, values in items.items() if values is not None}
    return {"events": summarise(pa.table(events)), "items": summarise(pa.table(kept))}


def manifest(**counts: Any) -> PreparedManifest:
    return PreparedManifest(
        fingerprint="f",
        schema_fingerprint=SCHEMA.fingerprint(),
        data=DataConfig(events="events"),
        features=SCHEMA,
        sources={"events": ["events.parquet"]},
        as_of="2024-05-06T07:08:09+00:00",
        first_event="2023-11-14T00:00:00+00:00",
        last_event="2023-11-25T00:00:00+00:00",
        counts=Counts(
            **{
                "events_read": 3100,
                "train": 2500,
                "validation": 250,
                "test": 250,
                "items": 5,
                "queries": 3,
                "items_in_training": 2,
                "rejected": {"events: duplicate": 100, "items: null id": 3},
                **counts,
            }
        ),
    )


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    write_prepared(tmp_path)
    return tmp_path


def shifts(earlier: dict[str, Summary], later: dict[str, Summary]) -> list[Drift]:
    found = by_severity(drift(earlier, later, {"item_id", "query_id"}))
    return [one for one in found if one.verdict != "stable"]


def named(found: list[Drift]) -> set[tuple[str, str]]:
    return {(one.name, one.measure) for one in found}


def test_rows_and_their_rejection(prepared: Path) -> None:
    found = quality(prepared, manifest(), log(0))
    events, items = found.tables
    assert (events.read, events.kept, events.rejected) == (3100, 3000, {"duplicate": 100})
    assert (items.read, items.kept, items.rejected) == (3003, 3000, {"null id": 3})
    assert found.activity is not None
    assert sum(found.activity.events) == 3000
    assert found.activity.starts[0].startswith("2023-11-14T22")
    assert (found.compared_with, found.drift) == (None, ())


def test_popularity_and_slices(prepared: Path) -> None:
    found = quality(prepared, manifest(), log(0))
    assert (found.items.rows, found.items.events, found.items.without_events) == (4, 10, 1)
    assert (found.queries.events, found.queries.quantiles["p50"]) == (5, 1)
    assert {name: one.items for name, one in found.slices.items()} == {
        "head": 0, "torso": 1, "tail": 1, "cold": 2,
    }  # fmt: skip
    assert found.slices["cold"].validation == 1


def test_coverage(prepared: Path) -> None:
    found = {one.feature: one for one in quality(prepared, manifest(), log(0)).coverage}
    genre, brand, price = found["genre"], found["brand"], found["price"]
    assert (genre.rows, genre.with_events, genre.by_events) == (0.75, 2 / 3, 0.9)
    assert genre.out_of_vocabulary == 1 / 3
    assert (brand.rows, brand.with_events, brand.out_of_vocabulary) == (0.75, 1.0, None)
    assert (price.rows, price.by_events) == (0.5, 0.9)
    assert "item_id" not in found


def test_columns(prepared: Path) -> None:
    items = quality(prepared, manifest(), log(0, genre=["a"] * 2000 + [None] * 1000)).tables[1]
    columns = {column.name: column for column in items.columns}
    genre, ids, tags = columns["genre"], columns["item_id"], columns["tags"]
    assert (genre.missing, genre.distinct, genre.top[0].share) == (1 / 3, 1, 1.0)
    assert ids.top == ()  # A list of unique ids would be no statistic.
    assert tags.values_per_row == pytest.approx(1.0, abs=0.1)
    assert columns["price"].quantiles["p50"] == pytest.approx(1.0, rel=0.1)


def test_gini_and_the_curve() -> None:
    assert popularity(np.array([0, 0, 0, 4])).gini == pytest.approx(0.75)
    assert popularity(np.array([3, 3, 3])).gini == pytest.approx(0.0)
    counts = np.random.default_rng(0).zipf(1.4, 500)
    found = popularity(counts)
    pairs = np.abs(counts[:, None] - counts[None, :]).mean()
    assert found.gini == pytest.approx(pairs / (2 * counts.mean()))
    ranks, shares = np.array(found.curve).T
    assert (np.diff(ranks) > 0).all()
    assert (np.diff(shares) >= 0).all()
    assert (ranks[-1], shares[-1]) == (1, 1)
    top = np.sort(counts)[::-1]
    assert share_of(found, 1 / 500) == pytest.approx(top[0] / counts.sum())


@pytest.mark.parametrize("counts", [np.zeros(0, np.int64), np.zeros(3, np.int64), np.array([5])])
def test_popularity_of_nearly_nothing(counts: Any) -> None:
    found = popularity(counts)
    assert (found.gini, found.events) == (0, counts.sum())


def test_slices_have_their_items_and_events() -> None:
    by_split = np.random.default_rng(1).zipf(1.3, (400, 3)) - 1
    found = events_by_slice(by_split, SliceBounds.of(by_split[:, 0]))
    for name, members in item_slices(by_split[:, 0]).items():
        one = found[name]
        assert one.items == members.sum()
        assert [one.train, one.validation, one.test] == by_split[members].sum(axis=0).tolist()


def test_stability_index_by_hand() -> None:
    index, parts = stability_index(np.array([5000, 5000]), np.array([8000, 2000]))
    expected = [0.3 * np.log(8 / 5), -0.3 * np.log(2 / 5)]
    assert parts == pytest.approx(expected, rel=1e-3)
    assert index == pytest.approx(sum(expected), rel=1e-3)
    assert np.isfinite(stability_index(np.array([0, 3]), np.array([3, 0]))[0])
    assert stability_index(np.array([0, 0]), np.array([0, 0]))[0] == 0


def test_an_identical_log_does_not_drift(prepared: Path) -> None:
    earlier = quality(prepared, manifest(), log(0))
    later = quality(prepared, manifest(), log(0), earlier)
    assert later.compared_with == earlier.as_of
    assert len(later.drift) > 10
    assert later.shifts == ()
    assert all(one.change == 0 for one in later.drift)


@pytest.mark.parametrize("rows", [40, 300, 3000])
@pytest.mark.parametrize("seed", range(1, 6))
def test_chance_is_no_drift(seed: int, rows: int) -> None:
    # Two small samples differ in their rare values; everything else must be called stable.
    found = named(shifts(log(0, rows), log(seed, rows)))
    turnover = {("events.item_id", what) for what in ("new", "gone")}
    turnover |= {("events.query_id", what) for what in ("new", "gone")} if rows < 3000 else set()
    assert {one for one in found if one[1] != "distinct"} <= turnover


def test_a_shift_is_found_and_named() -> None:
    random = np.random.default_rng(9)
    earlier = log(0)
    prices = np.exp(random.normal(1.0, 1.0, size=3000))
    genres = [None if random.random() < 0.3 else f"g{i}" for i in random.zipf(2.0, 3000) % 20]
    tags = [["new"]] * 1500 + [["t1"]] * 1500
    ids = [f"i{i}" for i in range(2000, 5000)]
    found = shifts(earlier, log(1, price=prices, genre=genres, tags=tags, item_id=ids))
    expected = {
        ("items.price", "values"),
        ("items.genre", "missing"),
        ("items.tags", "values"),
        ("items.tags", "missing"),
        ("items.item_id", "new"),
        ("items.item_id", "gone"),
    }
    assert expected <= named(found)
    by_name = {(one.name, one.measure): one for one in found}
    assert by_name["items.genre", "missing"].verdict == "large shift"
    assert by_name["items.genre", "missing"].now == pytest.approx(0.3, abs=0.05)
    assert "'new': 50.0%" in by_name["items.tags", "values"].sentence
    assert by_name["items.item_id", "new"].change == pytest.approx(2 / 3, abs=0.1)
    verdicts = [one.verdict for one in found]
    assert verdicts == sorted(verdicts)  # `large shift` comes before `shifted`.


def test_no_id_of_the_run_before_is_named() -> None:
    def events(favourite: str) -> dict[str, Summary]:
        users = [favourite] * 500 + [f"user-{i % 50}" for i in range(500)]
        return {"events": summarise(pa.table({"query_id": users}))}

    found = shifts(events("forgotten"), events("user-1"))
    assert ("events.query_id", "values") in named(found)
    assert not any("forgotten" in one.model_dump_json() for one in found)


def test_columns_that_come_and_go_and_change_their_type() -> None:
    found = shifts(log(0), log(0, price=None, colour=["red"] * 3000, genre=[1] * 3000))
    assert {("items.price", "columns"), ("items.colour", "columns")} <= named(found)
    sentences = {one.name: one.sentence for one in found if one.measure == "columns"}
    assert sentences["items.price"] == "the column is gone"
    assert sentences["items.genre"] == "its type is int64, before string"


def test_a_log_that_ends_earlier() -> None:
    random = np.random.default_rng(0)

    def until(day: int) -> dict[str, Summary]:
        times = pa.array(random.integers(0, day * 86_400, 5000), pa.timestamp("s"))
        return {"events": summarise(pa.table({"timestamp": times}))}

    assert shifts(until(20), until(21)) == []
    assert [one.verdict for one in shifts(until(20), until(18))] == ["shifted"]
    assert [one.verdict for one in shifts(until(20), until(9))] == ["large shift"]


def test_fewer_rows_and_a_table_that_is_gone() -> None:
    earlier, later = log(0), log(0, 1400)
    assert ("events", "rows") in named(shifts(earlier, later))
    del later["items"]
    assert ("items", "columns") in named(shifts(earlier, later))


def test_empty_tables_are_compared() -> None:
    nothing = log(0, 0)
    assert shifts(nothing, nothing) == []
    assert named(shifts(nothing, log(0))) >= {("events", "rows")}
    assert named(shifts(log(0), nothing)) >= {("events", "rows")}


def test_rejection_drifts(prepared: Path) -> None:
    earlier = quality(prepared, manifest(), log(0))
    worse = manifest(rejected={"events: duplicate": 100, "events: null item id": 310})
    found = quality(prepared, worse, log(0), earlier).shifts
    assert [(one.measure, one.verdict) for one in found] == [("rejected", "large shift")]
    assert "null item id" in found[0].sentence
    assert found[0].change == pytest.approx(0.1)


def test_events_that_the_configuration_leaves_out_are_no_fault(prepared: Path) -> None:
    left_out = manifest(rejected={"events: rating below min_rating": 6000, "events: duplicate": 3})
    found = quality(prepared, left_out, log(0))
    check, _ = quality_checks(found)
    assert check.state == "passes"
    assert "most because: duplicate; 6,000 events left out as configured" in check.text
    assert "left out: rating below min_rating" in render_page(quality_page(found))
    faulty = manifest(rejected={"events: duplicate": 6000})
    assert quality_checks(quality(prepared, faulty, log(0)))[0].state == "fails"


def test_written_and_read(prepared: Path) -> None:
    earlier = quality(prepared, manifest(), log(0))
    found = quality(prepared, manifest(), log(1), earlier)
    assert read_quality(prepared) is None
    write_quality(prepared, found)
    assert read_quality(prepared) == found
    text = (prepared / "statistics" / "quality.json").read_text(encoding="utf-8")
    json.loads(text, parse_constant=pytest.fail)
    (prepared / "statistics" / "quality.json").write_text('{"version": 1}', encoding="utf-8")
    assert read_quality(prepared) is None


def test_the_page_is_whole_and_safe(prepared: Path) -> None:
    evil = "<script>alert(1)</script>"
    earlier = quality(prepared, manifest(), log(0))
    columns = {evil: [evil] * 3000, "genre": pa.array([None] * 3000, pa.string())}
    whole = quality_page(quality(prepared, manifest(), log(0, **columns), earlier))
    page = render_page(whole)
    assert evil not in page
    assert "&lt;script&gt;" in page
    outline = Outline(page)
    assert "script" not in outline.tags
    assert set(outline.links) <= {f"#{each}" for each in outline.ids}
    assert "Large shift since the run before" in page
    assert "▼ large shift" in page
    assert "figures moved since the run before" in page
    drift = next(each for each in whole.sections if each.key == "drift")
    # A line, then what moved; all else is folded away.
    assert [part.kind for part in drift.parts] == ["text", "table", "entry", "entry"]
    assert "items.genre" in page


def test_a_log_without_time_and_tables(prepared: Path) -> None:
    events = pa.table({"query_id": ["x"], "item_id": ["a"]})
    config = DataConfig.model_validate(
        {
            "events": "events",
            "columns": {"timestamp": None},
            "split": {"kind": "random_hash"},
            "history": {"kind": "others"},
        }
    )
    silent = manifest().model_copy(update={"data": config, "first_event": None, "last_event": None})
    found: Quality = quality(prepared, silent, {"events": summarise(events)})
    assert found.activity is None
    assert "The log has no time." in Outline(render_page(quality_page(found))).text
