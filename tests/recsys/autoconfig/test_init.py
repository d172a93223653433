"""`recsys init` on the shipped data sets and on logs of every shape."""

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store.core.errors import UserError
from feature_store.core.times import span_of
from pipelines.settings import TimeSplit
from recsys.autoconfig import rules
from recsys.autoconfig.data_name import data_name
from recsys.autoconfig.init import init_config, relative_path
from recsys.config.load import load_config
from recsys.config.training import RayTrainConfig
from tests.support.logs.init_logs import START, init, log, refusal, said, write

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"


@pytest.mark.parametrize(
    ("name", "split", "history", "length", "query_id"),
    [
        ("movielens-100k", "leave_last_out", "past", 100, True),
        ("movielens-1m", "random_hash", "others", 100, True),
        ("wikispeedia", "random_hash", "others", 51, True),
        ("amazon-beauty", "leave_last_out", "past", 14, False),
    ],
)
def test_shipped_data(
    tmp_path: Path, name: str, split: str, history: str, length: int, query_id: bool
) -> None:
    if not DATA.is_dir():
        pytest.skip("the data sets beside the repository (../shared/data) are absent")
    folder = DATA / name
    tables = [str(folder / table) for table in ("events", "items.parquet", "queries.parquet")]
    config = init(tmp_path, *tables)
    assert config.data.split.kind == split
    assert (config.data.history.kind, config.data.history.max_length) == (history, length)
    assert any(feature.kind == "id" for feature in config.features.query) == query_id
    assert config.features.item[0].kind == "id"
    listed = {feature.name for feature in config.features.item}
    assert listed == set(pq.read_schema(folder / "items.parquet").names)
    assert Path(config.output) == tmp_path / "runs" / name
    assert config.tracking.experiment == name
    assert config.ssl.method == "neighbours"
    lines = (tmp_path / "config.yaml").read_text().splitlines()
    assert max(len(line) for line in lines if "shares:" not in line) <= 100


def test_wikispeedia_titles_are_text_and_alphabetical_time_is_dropped(tmp_path: Path) -> None:
    if not DATA.is_dir():
        pytest.skip("the data sets beside the repository (../shared/data) are absent")
    folder = DATA / "wikispeedia"
    config = init(tmp_path, str(folder / "events" / "*.parquet"), str(folder / "items.parquet"))
    assert config.data.columns.timestamp is None
    assert {f.name: f.kind for f in config.features.item}["title"] == "text"
    assert "order of their item ids" in (tmp_path / "config.yaml").read_text().replace("\n  #", "")


def test_names_and_units_of_other_logs(tmp_path: Path) -> None:
    raw = log()
    events = {
        "movieId": raw["item_id"],
        "Overall": np.tile([1.0, 5.0], 200),
        "ts": raw["timestamp"] * 1000,
        "USER_ID": raw["query_id"],
        "sample_weight": np.ones(400),
    }
    config = init(tmp_path, events)
    columns = config.data.columns
    assert (columns.query_id, columns.item_id, columns.timestamp) == ("USER_ID", "movieId", "ts")
    assert (columns.timestamp_unit, columns.weight) == ("ms", "sample_weight")
    assert (columns.rating, config.data.min_rating) == (None, None)
    text = (tmp_path / "config.yaml").read_text()
    assert "Overall (1 to 5) is not read" in text
    assert "4 here, and columns.rating: Overall" in text
    assert [feature.name for feature in config.features.item] == ["movieId"]
    assert (config.ssl.method, config.loss.id_dropout) == ("none", 0)
    assert config.training.ray is None


@pytest.mark.parametrize(("gpus", "ray"), [(0, None), (1, None), (4, RayTrainConfig(workers=4))])
def test_one_process_trains_unless_there_are_several_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: int, ray: RayTrainConfig | None
) -> None:
    monkeypatch.setattr("recsys.autoconfig.init.count_gpus", lambda: gpus)
    assert init(tmp_path, log()).training.ray == ray


@pytest.mark.parametrize(
    "kind", ["timestamp[us, tz]", "date32", "ISO", "ISO with zone", "us", "ns", "float"]
)
def test_times_of_every_type(tmp_path: Path, kind: str) -> None:
    events: dict[str, Any] = log()
    seconds = events["timestamp"]
    moments = [dt.datetime.fromtimestamp(int(second), dt.UTC) for second in seconds]
    events["timestamp"] = {
        "timestamp[us, tz]": lambda: pa.array(moments, pa.timestamp("us", "Europe/Berlin")),
        "date32": lambda: pa.array([moment.date() for moment in moments]),
        "ISO": lambda: [f"{moment:%Y-%m-%d %H:%M:%S}" for moment in moments],
        "ISO with zone": lambda: [f"{moment:%Y-%m-%dT%H:%M:%S}+00:00" for moment in moments],
        "us": lambda: seconds * 1_000_000,
        "ns": lambda: seconds * 1_000_000_000,
        "float": lambda: seconds.astype(float),
    }[kind]()
    config = init(tmp_path, events)
    split = config.data.split
    assert isinstance(split, TimeSplit)
    assert split.test is not None
    last = seconds.max() // 86_400 * 86_400 if kind == "date32" else seconds.max()
    cut = float(np.mean(seconds >= last - span_of(split.test).total_seconds()))
    assert cut == pytest.approx(0.1, abs=0.03)
    assert [encoder.kind for encoder in config.model.history] == ["mean", "last"]
    assert config.features.query == ()  # Test queries may be new.


@pytest.mark.parametrize("has_time", [True, False])
def test_a_nightly_job_is_proposed_to_go_on_where_there_is_a_clock(
    tmp_path: Path, has_time: bool
) -> None:
    events = log() if has_time else {k: v for k, v in log().items() if k != "timestamp"}
    assert init(tmp_path, events).training.start == "scratch"
    text = (tmp_path / "config.yaml").read_text()
    assert ("# start: previous" in text) == has_time
    if has_time:
        for key in ("start", "replay"):
            text = text.replace(f"  # {key}: ", f"  {key}: ")
        (tmp_path / "config.yaml").write_text(text)
        training = load_config(tmp_path / "config.yaml").training
        assert (training.start, training.replay) == ("previous", rules.REPLAY)


def test_a_log_without_time(tmp_path: Path) -> None:
    events = log()
    del events["timestamp"]
    config = init(tmp_path, events)
    assert config.data.columns.timestamp is None
    assert (config.data.split.kind, config.data.history.kind) == ("random_hash", "others")
    assert [encoder.kind for encoder in config.model.history] == ["mean"]
    assert config.loss.history_dropout > 0
    assert [feature.kind for feature in config.features.query] == ["id"]


@pytest.mark.parametrize("times", ["positions", "steps", "bursts"])
def test_time_without_a_common_clock_leaves_the_last_out(tmp_path: Path, times: str) -> None:
    events = in_phases(log(queries=200))
    position = np.tile(np.arange(10), 200)
    first = START + 86_400 * np.repeat(np.arange(200), 10)
    events["timestamp"] = {
        "positions": position,
        "steps": 1_500_000_000 + 86_400 * position,
        "bursts": first + 60 * position,
    }[times]
    config = init(tmp_path, events)
    assert (config.data.split.kind, config.data.history.kind) == ("leave_last_out", "past")
    text = reasons(tmp_path)
    wanted = {"positions": "not dates", "steps": "not real", "bursts": "only 0 %"}[times]
    assert wanted in text
    assert ("looks real" in text) == (times != "bursts")


def reasons(directory: Path) -> str:
    """Returns the written document, with each comment on one line."""
    return " ".join((directory / "config.yaml").read_text().replace("#", "").split())


def in_phases(events: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns events in which each query turns to another group of items after five events."""
    group = events["query_id"] % 6 + np.arange(len(events["query_id"])) // 5 % 2
    return {**events, "item_id": events["item_id"] // 6 + 10 * (group % 6)}


@pytest.mark.parametrize("why", ["shuffled", "rotated"])
def test_order_that_the_neighbours_belie(tmp_path: Path, why: str) -> None:
    """Tests events that are shuffled, or in an order of the items that starts anywhere."""
    events = log(queries=200)
    rng = np.random.default_rng(1)
    key = rng.random(len(events["item_id"]))
    if why == "rotated":
        key = (rng.permutation(60)[events["item_id"]] / 60 + np.repeat(rng.random(200), 10)) % 1
    order = np.lexsort((key, events["query_id"]))
    events = {name: column[order] for name, column in events.items()}
    events["timestamp"] = 1_500_000_000 + 86_400 * np.tile(np.arange(10), 200)
    config = init(tmp_path, events)
    assert (config.data.split.kind, config.data.history.kind) == ("random_hash", "others")
    assert config.data.columns.timestamp is None
    text = reasons(tmp_path)
    assert {"shuffled": "no more often than", "rotated": "as only an order of the items"}[
        why
    ] in text


@pytest.mark.parametrize("why", ["item order", "one moment", "short"])
def test_order_that_means_nothing_is_not_used(tmp_path: Path, why: str) -> None:
    events = log(queries=200)
    if why == "item order":
        order = np.lexsort((events["item_id"], events["query_id"]))
        events = {name: column[order] for name, column in events.items()}
        events["timestamp"] = np.arange(START, START + 2000)
    elif why == "one moment":
        events["timestamp"] = np.full(2000, START)
    else:  # Every query once or twice, within a minute.
        events["query_id"] = np.arange(2000) // 2
        events["timestamp"] = START + 86_400 * events["query_id"] + np.arange(2000) % 2
    config = init(tmp_path, events)
    assert (config.data.split.kind, config.data.history.kind) == ("random_hash", "others")


@pytest.mark.parametrize(
    ("items", "select_by", "cutoffs"),
    [
        (12, "ndcg@10", (1, 5, 10, 50)),
        (60, "ndcg@10", (1, 5, 10, 50)),
        (150, "ndcg@10", (10, 50)),
        (400, "recall@50", (10, 50)),
    ],
)
def test_the_selection_fits_the_catalogue(
    tmp_path: Path, items: int, select_by: str, cutoffs: tuple[int, ...]
) -> None:
    events = log(queries=200)
    events["item_id"] = np.arange(2000) % items
    evaluation = init(tmp_path, events).evaluation
    assert (evaluation.select_by, evaluation.cutoffs) == (select_by, cutoffs)
    # A table may list far more items than have events.
    assert init(tmp_path, events, {"item_id": range(400)}).evaluation.select_by == "recall@50"


@pytest.mark.parametrize(("queries", "patience"), [(20, 10), (150, 5), (600, 3)])
def test_the_patience_fits_the_held_out_pairs(tmp_path: Path, queries: int, patience: int) -> None:
    config = init(tmp_path, log(queries=queries, each=6), split="leave_last_out")
    assert config.training.patience == patience


def test_a_split_that_is_asked_for(tmp_path: Path) -> None:
    config = init(tmp_path, log(), split="random_hash")
    assert (config.data.split.kind, config.data.history.kind) == ("random_hash", "others")
    assert [encoder.kind for encoder in config.model.history] == ["mean"]
    config = init(tmp_path, log(), split="leave_last_out")
    assert (config.data.split.kind, config.data.history.kind) == ("leave_last_out", "past")
    timeless = {name: values for name, values in log().items() if name != "timestamp"}
    assert "use --split random_hash" in refusal(tmp_path, timeless, split="leave_last_out")


def test_a_split_that_the_log_gives(tmp_path: Path) -> None:
    events: dict[str, Any] = log()
    events["split"] = np.tile(["train"] * 8 + ["validation", "test"], 40)
    config = init(tmp_path, events)
    assert config.data.split.model_dump() == {"kind": "given", "column": "split"}


def test_ids_by_content(tmp_path: Path) -> None:
    raw = log()
    events = {"who": raw["query_id"], "what": raw["item_id"] + 7, "when": raw["timestamp"]}
    items = {"price": np.arange(60.0), "what": np.arange(60) + 7}
    config = init(tmp_path, events, items)
    columns = config.data.columns
    assert (columns.query_id, columns.item_id, columns.timestamp) == ("who", "what", "when")
    text = (tmp_path / "config.yaml").read_text()
    assert "its values are the ids of items" in text
    assert "no other column can be it" in text
    assert "the only column that holds dates" in text


def test_ids_may_be_numbers_here_and_strings_there(tmp_path: Path) -> None:
    items = {"item_id": [str(i) for i in range(60)], "colour": ["red", "blue"] * 30}
    assert len(init(tmp_path, log(), items).features.item) == 2


def test_ids_that_do_not_fit(tmp_path: Path) -> None:
    disjoint = refusal(tmp_path, log(), {"item_id": [f"p-{i}" for i in range(60)]})
    assert "'p-0' in the items" in disjoint
    absent = refusal(tmp_path, log(), None, {"age": [20, 30] * 20, "city": ["x"] * 40})
    assert "queries: no column is the query id, which the events call 'query_id'" in absent
    assert "age, city" in absent
    unnamed = refusal(tmp_path, {"a": [1, 2], "b": [2, 3], "c": [3, 4]})
    assert "no column looks like the item id; the log has: a, b, c" in unnamed
    no_query = refusal(tmp_path, {"item_id": [1, 2], "b": [2, 3], "c": [3, 4]})
    assert "no column looks like the query id" in no_query
    fractions = refusal(tmp_path, {"user_id": [1.5, 2.5], "item_id": [2, 3]})
    assert "'user_id' is double" in fractions


def test_ids_of_other_types_and_names(tmp_path: Path) -> None:
    events: dict[str, Any] = log()
    events["movieId"] = pa.array(events.pop("item_id").astype(float))
    queries = [str(query).encode() for query in events.pop("query_id")]
    events["userId"] = pa.array(queries, pa.binary())
    items = {"rank": range(1, 61), "id": range(60), "genre": ["a", "b"] * 30}
    users = {"user": [str(query) for query in range(40)], "age": [20, 30] * 20}
    config = init(tmp_path, events, items, users)
    columns = config.data.columns
    assert (columns.query_id, columns.query_key) == ("userId", "user")
    assert (columns.item_id, columns.item_key) == ("movieId", "id")
    assert "id" not in [feature.name for feature in config.features.item]
    assert config.features.item[0].name == "movieId"
    assert "# column of items with these ids" in (tmp_path / "config.yaml").read_text()


def test_a_column_that_some_files_lack_has_no_role(tmp_path: Path) -> None:
    events: dict[str, Any] = log()
    write(tmp_path / "events" / "1.parquet", events)
    write(tmp_path / "events" / "2.parquet", events | {"weight": np.ones(400)})
    config = init(tmp_path, str(tmp_path / "events"))
    assert config.data.columns.weight is None
    events["UserID"] = events.pop("query_id")
    write(tmp_path / "events" / "1.parquet", events)
    events["user_id"] = events.pop("UserID")
    write(tmp_path / "events" / "2.parquet", events)
    assert "2.parquet has no column 'UserID'" in refusal(tmp_path, str(tmp_path / "events"))


def test_broken_times_are_named(tmp_path: Path) -> None:
    events: dict[str, Any] = log()
    events["timestamp"] = ["12:30"] * 400
    config = init(tmp_path, events)
    assert config.data.columns.timestamp is None
    text = (tmp_path / "config.yaml").read_text()
    assert "holds no times" in text


def test_times_of_two_types_are_said_to_be_unreadable(tmp_path: Path) -> None:
    events = pa.table(log())
    times = events["timestamp"].cast(pa.timestamp("s"))
    write(tmp_path / "log" / "1.parquet", events)
    write(tmp_path / "log" / "2.parquet", events.set_column(2, "timestamp", times))
    config, text = said(tmp_path, str(tmp_path / "log"))
    assert config.data.split.kind == "random_hash"
    assert "WARNING: column 'timestamp' cannot be read, because it is int64 in" in text
    assert "give the times of all files one type" in text
    assert "The log has no time" not in (tmp_path / "config.yaml").read_text()
    refused = refusal(tmp_path, str(tmp_path / "log"), timestamp="timestamp")
    assert "--timestamp-column timestamp: the column cannot be read, because it is int64" in refused


def test_ids_of_two_types_are_refused(tmp_path: Path) -> None:
    events = pa.table({**log(), "thing": log()["item_id"]})
    lists = pa.array([[item] for item in log()["item_id"]])
    write(tmp_path / "log" / "1.parquet", events)
    write(tmp_path / "log" / "2.parquet", events.set_column(1, "item_id", lists))
    refused = refusal(tmp_path, str(tmp_path / "log"))
    assert "column 'item_id', which may hold ids, cannot be read, because it is int64" in refused


def test_ids_of_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    events = {**log(), "query_id": pa.array([b"\xff%d" % query for query in log()["query_id"]])}
    assert "('query_id' has none at all); expected ids in both" in refusal(tmp_path, events)


def test_a_split_in_other_words_is_named(tmp_path: Path) -> None:
    parts = np.array(["train", "dev", "test"])[np.arange(400) % 3]
    config, text = said(tmp_path, {**log(), "split": parts})
    assert config.data.split.kind != "given"
    assert "column 'split' says which part an event belongs to (dev, test, train)" in text
    folds = np.array(["a", "b"])[np.arange(400) % 2]
    assert "which part" not in said(tmp_path, {**log(), "fold": folds})[1]


def test_the_output_is_not_overwritten(tmp_path: Path) -> None:
    events = write(tmp_path / "shop" / "events.parquet", log())
    output = tmp_path / "config.yaml"
    output.write_text("mine")
    with pytest.raises(UserError, match="exists"):
        init_config(events, None, None, output)
    assert output.read_text() == "mine"
    config = init_config(events, None, None, output, overwrite=True)
    assert Path(config.output).name == "shop"
    with pytest.raises(UserError, match="is a directory"):
        init_config(events, None, None, tmp_path, overwrite=True)
    with pytest.raises(UserError, match="is one of the tables to read; give another name"):
        init_config(events, None, None, Path(events), overwrite=True)


def test_paths_are_relative_to_the_configuration(tmp_path: Path) -> None:
    events = write(tmp_path / "data" / "events" / "day=1" / "a.parquet", log())
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "deep")
    for directory in (tmp_path, tmp_path / "elsewhere", tmp_path / "link", tmp_path / "new"):
        config = init_config(str(tmp_path / "data/events"), None, None, directory / "c.yaml")
        assert Path(config.data.events).resolve() == (tmp_path / "data" / "events").resolve()
    assert relative_path("s3://bucket/log", tmp_path) == "s3://bucket/log"
    assert data_name(str(tmp_path / "shop" / "data" / "events")) == "shop"
    assert data_name(events) == "a"
    assert data_name("s3://bucket/my shop/events/*.parquet") == "my-shop"


def test_single_visits_are_validated_within_an_epoch(tmp_path: Path) -> None:
    config = init(tmp_path, log(queries=40_000, each=1))
    assert config.training.validations_per_epoch == 4
    assert config.training.patience >= 4
    assert "validations_per_epoch" in (tmp_path / "config.yaml").read_text()
    config = init(tmp_path, log(queries=4_000, each=10))
    assert config.training.validations_per_epoch == 1
    assert "validations_per_epoch" not in (tmp_path / "config.yaml").read_text()
