"""The context of events, from the log to examples and queries, against a plain reading."""

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError
from rich.console import Console

from feature_store.core.columns import Column, Dense
from feature_store.forgotten import Forgotten
from feature_store.schema import FeatureSchema
from pipelines.prepare.prepare import prepare
from pipelines.prepared.examples import SPLITS, context_columns
from pipelines.prepared.reader import Prepared
from pipelines.settings import DataConfig
from recsys.config.load import parse_config
from recsys.data.plan import plan_training
from recsys.data.reader import read_steps
from tests.support.prepare_logs import IDS_ONLY, LOCAL, random_events, refusal, run, write_log

CONTEXT: list[dict[str, Any]] = [
    {"name": "device", "kind": "categorical", "dim": 4},
    {"name": "pages", "kind": "multi_valued", "dim": 4, "hash_buckets": 5},
    {"name": "query", "kind": "text", "dim": 4},
    {"name": "load", "kind": "numeric", "dim": 4},
    {"name": "place", "kind": "vector", "dim": 4, "length": 2},
    {"name": "shown", "kind": "position", "dim": 4},
    {"name": "hour", "kind": "time", "part": "hour", "dim": 4},
    {"name": "since", "kind": "time", "part": "recency", "dim": 4},
]
FEATURES = FeatureSchema.model_validate({"item": [IDS_ONLY.item[0]], "context": CONTEXT})
SETTINGS: dict[str, Any] = {
    "columns": {"weight": "weight"},
    "split": {"kind": "leave_last_out"},
    "history": {"max_length": 5},
}


def events_with_context(seed: int = 0, rows: int = 500) -> pa.Table:
    """Draws events with context; events of one query, time and item may differ in it."""
    random = np.random.default_rng(seed)
    events = random_events(seed, rows=rows, items=30)
    time = 1_500_000_000 + 40_000 * random.integers(0, 12, rows)
    devices = random.choice(["phone", "tv", "desk"], rows)
    return events.set_column(2, "timestamp", pa.array(time)).append_column(
        "device", pa.array(devices, mask=random.random(rows) < 0.2)
    ).append_column(
        "pages", pa.array([[f"p{i}" for i in range(n)] for n in random.integers(0, 4, rows)])
    ).append_column(
        "query", pa.array([f"Red {word}" for word in random.choice(["shoe", "hat"], rows)])
    ).append_column(
        "load", pa.array(random.normal(size=rows), mask=random.random(rows) < 0.2)
    ).append_column(
        "place", pa.array(random.integers(0, 9, (rows, 2)).tolist(), pa.list_(pa.float32()))
    ).append_column("shown", pa.array(random.integers(0, 6, rows)))  # fmt: skip


def text_of(column: Column, row: int) -> Any:
    if isinstance(column, Dense):
        return column.values[row].tolist() if column.present[row] else None
    return column.values[column.offsets[row] : column.offsets[row + 1]].tolist()


def encoded_examples(prepared: Prepared) -> dict[tuple[str, int, str], dict[str, Any]]:
    """Returns the split, history and encoded context of each (query, time, item)."""
    items = prepared.item_encoder.ids.tokens.to_pylist()
    queries = prepared.query_encoder.ids.tokens.to_pylist()
    found = {}
    for split in SPLITS:
        for file in prepared.examples(split):
            for row in pq.read_table(file).to_pylist():
                key = (
                    queries[row["query"]],
                    int(row["timestamp"].timestamp()),
                    items[row["item"]],
                )
                context = {f.name: row[f"context.{f.name}"] for f in prepared.features.context}
                history = [items[item] for item in row["history"]]
                found[key] = {"split": split, "history": history, **context}
    return found


@pytest.fixture(scope="module")
def events() -> pa.Table:
    return events_with_context()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, events: pa.Table) -> Prepared:
    directory = tmp_path_factory.mktemp("context")
    return run(directory / "out", FEATURES, **write_log(directory, events=events), **SETTINGS)


def test_every_example_has_the_context_of_one_of_its_rows(prepared: Prepared, events: pa.Table):
    rows = defaultdict(list)
    for row in events.to_pylist():
        rows[row["query_id"], row["timestamp"], row["item_id"]].append(row)
    encoder = prepared.context_encoder
    devices = {t: i + 1 for i, t in enumerate(encoder.vocabularies["device"].tokens.to_pylist())}
    words = {t: i + 1 for i, t in enumerate(encoder.vocabularies["query"].tokens.to_pylist())}
    ranks = {t: i + 1 for i, t in enumerate(encoder.vocabularies["shown"].tokens.to_pylist())}
    load = np.array([v for v in events["load"].to_pylist() if v is not None])
    place = np.array(events["place"].to_pylist())
    found = encoded_examples(prepared)
    assert found.keys() == rows.keys()
    for (query, time, item), example in found.items():
        same = rows[query, time, item]
        heaviest = max(row["weight"] for row in same)
        expected = []
        for row in same:
            is_known = row["load"] is not None
            is_training = example["split"] == "train"
            expected.append(
                {
                    "device": [devices[row["device"]]] if row["device"] else [],
                    "query": [words[word] for word in row["query"].lower().split()],
                    "shown": [ranks[str(row["shown"])]] if is_training else [],
                    "load": [(row["load"] - load.mean()) / load.std()] if is_known else [],
                    "place": ((row["place"] - place.mean(0)) / place.std(0)).tolist(),
                    "hour": [time // 3600 % 24],
                }
            )
        candidates = [e for e, row in zip(expected, same, strict=True) if row["weight"] == heaviest]
        close = [
            all(example[name] == pytest.approx(values, abs=1e-5) for name, values in e.items())
            for e in candidates
        ]
        assert any(close), f"{example}\n{candidates}"
        assert len(example["pages"]) <= 3
        assert all(1 <= row <= 5 for row in example["pages"])


def test_recency_is_since_the_latest_event_of_the_history(prepared: Prepared):
    found = encoded_examples(prepared)
    scale = np.log1p(86_400)
    for (query, time, item), example in found.items():
        visible = ("train",) if example["split"] != "test" else ("train", "validation")
        earlier = [
            t
            for (q, t, i), other in found.items()
            if q == query and t < time and i != item and other["split"] in visible
        ]
        if earlier:
            seconds = time - max(earlier)
            assert example["since"] == pytest.approx([np.log1p(seconds) / scale - 1], abs=1e-6)
        else:
            assert example["since"] == []
        # The history may be empty all the same: its window may hold only the item itself.
        assert bool(earlier) or not example["history"]


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_question_has_the_context_of_its_earliest_held_out_event(prepared: Prepared, split: str):
    by_query = defaultdict(list)
    for (query, time, item), example in encoded_examples(prepared).items():
        if example["split"] == split:
            by_query[query].append((time, item, example))
    context = prepared.context_of(np.arange(prepared.num_queries), split)
    asked = 0
    for index, query in enumerate(prepared.query_encoder.ids.tokens.to_pylist()):
        if not by_query[query]:
            assert all(text_of(column, index) in ([], None) for column in context.values())
            continue
        asked += 1
        _, _, first = min(by_query[query], key=lambda event: event[:2])
        for name, column in context.items():
            expected = first[name] or (None if isinstance(column, Dense) else [])
            assert text_of(column, index) == expected, name
    assert asked > 10
    assert not len(context["shown"].values)


def test_the_latest_event_is_that_of_the_history_of_the_test(prepared: Prepared):
    found = encoded_examples(prepared)
    latest = prepared.latest_event
    assert latest is not None
    state = prepared.query_state
    items = prepared.item_encoder.ids.tokens.to_pylist()
    for index, query in enumerate(prepared.query_encoder.ids.tokens.to_pylist()):
        history = state.test_history.take(np.array([index])).values
        if len(history):
            last = items[history[-1]]
            times = [t for (q, t, i), e in found.items() if (q, i) == (query, last)]
            assert latest[index] // 1_000_000 in times


def test_neither_files_nor_their_order_show(tmp_path: Path, prepared: Prepared, events: pa.Table):
    shuffled = events.take(pa.array(np.random.default_rng(1).permutation(len(events))))
    (tmp_path / "events").mkdir()
    for part, start in enumerate(range(0, len(events), 150)):
        table = shuffled.slice(start, 150)
        if part == 1:  # One file stores the same values as a dictionary.
            table = table.set_column(
                table.column_names.index("device"), "device", table["device"].dictionary_encode()
            )
        pq.write_table(table, tmp_path / "events" / f"{part}.parquet")
    other = run(tmp_path / "out", FEATURES, events=str(tmp_path / "events"), **SETTINGS)
    for path in ("train/part-00000.parquet", "test/part-00000.parquet"):
        first, second = (pq.read_table(p.directory / path) for p in (prepared, other))
        for name in first.column_names:
            if name not in ("context.load", "context.place"):
                assert first[name].equals(second[name]), name
                continue
            for one, two in zip(first[name].to_pylist(), second[name].to_pylist(), strict=True):
                assert one == pytest.approx(two, abs=1e-6)
    for name in ("queries/latest.npy", "vocabulary/context.device.parquet"):
        assert (prepared.directory / name).read_bytes() == (other.directory / name).read_bytes()


def test_a_log_that_grows_keeps_the_rows_and_says_what_all_at_once_would(tmp_path: Path):
    (tmp_path / "events").mkdir()
    pq.write_table(events_with_context(1, 200), tmp_path / "events" / "1.parquet")
    features = FEATURES.model_copy(update={"context": FEATURES.context[:1] + FEATURES.context[-1:]})
    settings = {"events": str(tmp_path / "events"), **SETTINGS}
    before = run(tmp_path / "out", features, **settings).context_encoder.vocabularies["device"]
    late = events_with_context(2, 200)
    watches = late.set_column(
        late.column_names.index("device"), "device", pa.array(["watch"] * 200)
    )
    pq.write_table(watches, tmp_path / "events" / "0.parquet")
    grown = run(tmp_path / "out", features, **settings)
    tokens = grown.context_encoder.vocabularies["device"].tokens
    assert tokens.to_pylist() == [*before.tokens.to_pylist(), "watch"]
    at_once = run(tmp_path / "at_once", features, **settings)
    names = [
        (p, p.context_encoder.vocabularies["device"].tokens.to_pylist()) for p in (grown, at_once)
    ]
    decoded = [
        {
            key: {**row, "device": [names[row - 1] for row in row["device"]]}
            for key, row in encoded_examples(prepared).items()
        }
        for prepared, names in names
    ]
    assert decoded[0] == decoded[1]


def test_the_context_of_the_forgotten_leaves_no_trace(tmp_path: Path):
    events = events_with_context(3, 200)
    is_q1 = [query == "q1" for query in events["query_id"].to_pylist()]
    device = pa.array(["secret" if q1 else "phone" for q1 in is_q1])
    events = events.set_column(events.column_names.index("device"), "device", device)
    paths = write_log(tmp_path, events=events)
    data = DataConfig.model_validate({**paths, **SETTINGS})
    features = FEATURES.model_copy(update={"context": FEATURES.context[:2]})
    forgotten = Forgotten().adding("query", ["q1"])
    for known in (Forgotten(), forgotten):
        prepare(
            data,
            features,
            tmp_path / "out",
            executor=LOCAL,
            forgotten=known,
            console=Console(quiet=True),
        )
    tokens = Prepared(tmp_path / "out").context_encoder.vocabularies["device"].tokens
    assert sorted(tokens.to_pylist(), key=str) == [None, "phone"]
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.name != "events.parquet":
            assert b"secret" not in path.read_bytes(), path
            if path.suffix == ".parquet":
                assert "secret" not in str(pq.read_table(path).to_pydict())


def test_training_reads_the_context_of_each_example(prepared: Prepared):
    plan = plan_training(prepared.examples("train"), batch_size=128, workers=1, epochs=1, seed=0)
    items = prepared.item_encoder.ids.tokens.to_pylist()
    queries = prepared.query_encoder.ids.tokens.to_pylist()
    expected = defaultdict(list)
    for (query, _, item), example in encoded_examples(prepared).items():
        if example["split"] == "train":
            expected[query, item].append([example[f["name"]] for f in CONTEXT])
    seen = 0
    for share in read_steps(plan, 0, plan.total_steps, 0, 1):
        columns = context_columns(prepared.features.context, share.context, len(share.query))
        for row in range(len(share.query)):
            found = [text_of(columns[f["name"]], row) or [] for f in CONTEXT]
            assert found in expected[queries[share.query[row]], items[share.item[row]]]
            seen += 1
    assert seen == prepared.manifest.counts.train


@pytest.mark.parametrize(
    ("context", "data", "words"),
    [
        ({"kind": "time", "part": "hour", "zone": "Mars"}, {}, "'Mars' of 'x' is not a time zone"),
        ({"kind": "time", "part": "recency", "zone": "Europe/Paris"}, {}, "zone has no effect"),
        ({"kind": "time", "part": "month"}, {}, "recency"),
        ({"kind": "id"}, {}, "kind is 'id'; expected one of: categorical"),
        (
            {"kind": "time", "part": "recency"},
            {"history": {"kind": "others"}},
            "features.context.x needs data.history.kind past",
        ),
        (
            {"kind": "time", "part": "hour"},
            {"columns": {"timestamp": None}, "history": {"kind": "others"}},
            "features.context.x needs data.columns.timestamp, which is null",
        ),
        (
            {"kind": "categorical"},
            {"columns": {"item_id": "x"}},
            "features.context.x is not known at request time",
        ),
    ],
)
def test_what_cannot_be_a_context_is_refused(context, data, words):
    document = {
        "output": "out",
        "data": {"events": "e", "split": {"kind": "random_hash"}, **data},
        "features": {"item": [IDS_ONLY.item[0]], "context": [{"name": "x", "dim": 4, **context}]},
        "ssl": {"method": "none"},
    }
    with pytest.raises(Exception, match=re.escape(words)):
        parse_config(document)


def test_a_dropout_without_context_is_refused():
    with pytest.raises(Exception, match=r"loss\.context_dropout has no effect without"):
        parse_config(
            {
                "output": "out",
                "data": {"events": "e"},
                "features": IDS_ONLY.model_dump(),
                "ssl": {"method": "none"},
                "loss": {"context_dropout": 0.3},
            }
        )


def test_a_column_that_the_events_lack_is_named(tmp_path: Path):
    paths = write_log(tmp_path, events=random_events(0))
    text = refusal(tmp_path, FEATURES, **paths)
    assert text.startswith("events column 'device' not found; the log has: query_id, item_id,")
    assert text.endswith("Set features.context.")
    paths = write_log(
        tmp_path,
        events=events_with_context()
        .drop_columns("place")
        .append_column("place", pa.array([1] * 500)),
    )
    assert "events column 'place' is int64; expected a list of numbers" in refusal(
        tmp_path, FEATURES, **paths
    )


def test_names_are_distinct():
    with pytest.raises(ValidationError, match="the context feature 'device' is listed twice"):
        FeatureSchema.model_validate({"item": [IDS_ONLY.item[0]], "context": CONTEXT[:1] * 2})
