"""Whether items that a query has had come back, from the log to the answers of a bundle."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console

import serving
from feature_store.core.columns import Jagged
from feature_store.core.errors import UserError
from feature_store.forgotten import Forgotten
from pipelines.prepared.reader import Prepared
from recsys.config.config import Config
from recsys.config.load import with_values
from recsys.data.reader import read_steps
from recsys.stages import fit as fitting
from recsys.stages import measure as measuring
from recsys.stages.evaluate import evaluate
from recsys.stages.materialize import materialize
from recsys.stages.prepare import prepare
from recsys.stages.train import train
from recsys.training.run import training_plan
from serving.batch import recommend_all as bulk
from serving.batch.recommend_all import recommend_all
from serving.recommend.golden import read_golden
from serving.recommend.load import read_snapshot
from serving.recommend.memory import MemoryQueries
from serving.recommend.options import RecommendOptions
from serving.recommend.store import Store
from tests.support.planted import (
    BACK,
    BACK_BEFORE,
    CUSTOMERS,
    GROCERIES,
    PURCHASES,
    groceries_config,
    write_groceries,
)
from tests.support.tiny_bundle import export_untrained, untrained

QUIET = Console(quiet=True)
ALL = {f"i{item}" for item in range(GROCERIES)}


@pytest.fixture(scope="module")
def bought(tmp_path_factory):
    """Writes the log, and returns its path and the items of each query."""
    path = tmp_path_factory.mktemp("groceries") / "events.parquet"
    return path, write_groceries(path)


def exported(config: Config) -> Config:
    prepare(config, console=QUIET)
    with pytest.MonkeyPatch.context() as patch:
        export_untrained(config, patch)
    return config


@pytest.fixture(scope="module")
def excluding(bought, tmp_path_factory):
    return exported(groceries_config(bought[0], tmp_path_factory.mktemp("exclude"), "exclude"))


@pytest.fixture(scope="module")
def allowing(bought, tmp_path_factory):
    return exported(groceries_config(bought[0], tmp_path_factory.mktemp("allow"), "allow"))


def answers(recommender, query, **options):
    found = recommender.recommend(query, 1000, RecommendOptions(**options)).items
    return {item.item_id for item in found}


def test_nothing_that_the_log_has_of_a_query_comes_back(bought, excluding):
    """Answers without the test events, too, though the model was tested by finding them."""
    recommender = serving.load(excluding.bundle_dir)
    tested = recommender.as_evaluated()
    for query, items in bought[1].items():
        assert answers(recommender, query) == ALL - set(items)
        assert answers(recommender, query, exclude_seen=False) == ALL
        assert answers(tested, query) == ALL - set(items[:-1])
        # The vector is that of the evaluation: the test event is in no history.
        earlier = [item for item in items[:-1] if item != items[-1]]
        assert [item.item_id for item in recommender.liked(query, 50)] == earlier[::-1]
    lists = {golden.query_id: set(golden.items) for golden in read_golden(excluding.bundle_dir)}
    assert any(items & {bought[1][query][-1]} for query, items in lists.items())
    window = recommender.manifest.data_window
    assert window.histories_to == "2023-11-19T22:13:59+00:00"
    assert window.last_event == "2023-11-20T22:13:59+00:00"


def test_a_query_comes_back_to_its_items_where_that_is_allowed(bought, allowing):
    online = MemoryQueries()
    recommender = serving.load(allowing.bundle_dir, online=online)
    online.append([("q3", (1_800_000_000_000_000, "i5"))])
    for query, items in bought[1].items():
        assert answers(recommender, query) == ALL
        had = {*items, "i5"} if query == "q3" else set(items)
        assert answers(recommender, query, exclude_seen=True) == ALL - had
    assert answers(recommender, "new", history=["i1", "i2"]) == ALL


def test_examples_see_earlier_events_of_their_item_but_never_their_own(bought, allowing, excluding):
    for config, has_own in ((allowing, True), (excluding, False)):
        prepared = Prepared(config.prepared_dir)
        names = prepared.item_encoder.ids.tokens.to_pylist()
        queries = prepared.query_encoder.ids.tokens.to_pylist()
        (table,) = (pq.read_table(path) for path in prepared.examples("test"))
        for row in table.to_pylist():
            items = bought[1][queries[row["query"]]]
            history = [names[item] for item in row["history"]]
            assert names[row["item"]] == items[-1]
            assert history == [i for i in items[:-1] if has_own or i != items[-1]]
        state = prepared.query_state
        lengths = np.full(CUSTOMERS, PURCHASES - 1)
        assert state.test_history.lengths.sum() == lengths.sum() - (not has_own) * BACK


def test_sequences_teach_the_same_as_events(allowing):
    prepared, found = Prepared(allowing.prepared_dir), []
    for examples in ("events", "sequences"):
        config = with_values(allowing, {"training.examples": examples}, source="test")
        plan = training_plan(prepared, config)
        rows = set()
        for batch in read_steps(plan, 0, plan.steps_per_epoch, 0, 1):
            seen = batch.seen()
            bags = np.split(seen.values, seen.offsets[1:-1])
            rows |= {
                (int(query), int(item), tuple(bag.tolist()))
                for query, item, bag in zip(batch.query, batch.item, bags, strict=True)
            }
        found.append(rows)
    assert found[0] == found[1]


class StoppedError(Exception):
    """The training is about to begin."""


def test_what_is_left_out_is_said_in_training_and_evaluation(excluding, allowing, monkeypatch):
    def stop(*_):
        raise StoppedError

    monkeypatch.setattr(fitting, "tracked_run", stop)
    for config, words in (
        (excluding, "(25.0%) are left out, because the user had the item before"),
        (allowing, "(25.0%) are items that the user had before; they are ranked"),
    ):
        said = io.StringIO()
        with pytest.raises(StoppedError):
            train(config, console=Console(file=said, width=300))
        pairs_of = f"{BACK_BEFORE} of {CUSTOMERS} held-out pairs of the validation split"
        assert f"train: {pairs_of} {words}" in said.getvalue()

    model, manifest = untrained(excluding)
    monkeypatch.setattr(measuring, "load_model", lambda _: (model, manifest))
    said = io.StringIO()
    result = evaluate(excluding, console=Console(file=said, width=300))
    words = f"{BACK} of {CUSTOMERS} held-out pairs of the test split (80.0%) are left out, because"
    assert f"evaluate: {words}" in said.getvalue()
    assert "set data.repeats: allow" in said.getvalue()
    assert words in (excluding.evaluation_dir / "report.html").read_text()
    counts = {"queries": CUSTOMERS - BACK, "held_out": CUSTOMERS - BACK, "already_seen": BACK}
    assert result.counts.items() >= counts.items()


def test_another_setting_than_that_of_the_prepared_data_is_refused(excluding, allowing):
    for stage, config, other in ((evaluate, excluding, "allow"), (train, allowing, "exclude")):
        changed = with_values(config, {"data.repeats": other}, source="test")
        before = config.data.repeats
        with pytest.raises(UserError, match=f"was prepared with data.repeats: {before}, and the"):
            stage(changed)


@pytest.fixture
def with_store(excluding, tmp_path):
    """Returns a configuration of the same prepared data, whose feature store is empty."""
    config = excluding.model_copy(update={"output": str(tmp_path / "run")})
    (tmp_path / "run").mkdir()
    config.prepared_dir.symlink_to(excluding.prepared_dir)
    return config


@pytest.fixture
def in_process(monkeypatch):
    monkeypatch.setattr(bulk, "run_parts", lambda make, given, n, _: map(make(*given), range(n)))


def pairs(directory: Path) -> set[tuple[str, str]]:
    tables = [pq.read_table(path) for path in directory.glob("part-*.parquet")]
    return {(row["query_id"], row["item_id"]) for table in tables for row in table.to_pylist()}


def test_commands_say_to_when_they_know_or_ask_the_online_store(
    bought, excluding, with_store, tmp_path, in_process, command
):
    had = {(query, item) for query, items in bought[1].items() for item in items}
    every = {(query, item) for query in bought[1] for item in ALL}
    bundle, config = excluding.bundle_dir, tmp_path / "config.yaml"
    config.write_text(with_store.model_dump_json())
    note = (
        "histories reach to 2023-11-19 22:13 UTC, before the test events; items of all events of "
        "the log to 2023-11-20 22:13 UTC are left out; later events are unknown: --online CONFIG"
    )
    status, _, err = command("recommend", bundle, "--all", "-k", 1000, "-o", tmp_path / "plain")
    assert (status, f"recommend: {note}" in err) == (0, True)
    assert pairs(tmp_path / "plain") == every - had
    status, _, err = command("query", bundle, "--query-id", "q1")
    assert (status, f"query: {note}" in err) == (0, True)

    status, _, err = command("query", bundle, "--query-id", "q1", "--online", config)
    assert (status, "recsys materialize" in err) == (1, True)
    materialize(with_store, console=QUIET)
    store = Store(with_store.feature_store, with_store.feature_store_dir)
    new = sorted(ALL - set(bought[1]["q1"]))[0]
    store.open()[0].append([("q1", (1_700_900_000_000_000, new))])
    online = ["--online", config]
    status, _, err = command(
        "recommend", bundle, "--all", "-k", 1000, "-o", tmp_path / "o", *online
    )
    assert (status, "histories reach" in err) == (0, False)
    assert pairs(tmp_path / "o") == every - had - {("q1", new)}
    status, out, err = command("query", bundle, "--query-id", "q1", "-k", 1000, "--json", *online)
    assert (status, err) == (0, "")
    assert new not in {item["item_id"] for item in json.loads(out)["items"]}
    status, out, err = command("query", bundle, "--query-id", "q1", "-k", 1000, "--json")
    answer = json.loads(out)
    assert (status, err, answer["histories_to"]) == (0, "", "2023-11-19T22:13:59+00:00")
    assert new in {item["item_id"] for item in answer["items"]}


def test_a_store_that_fails_leaves_no_half_of_a_batch(
    excluding, with_store, tmp_path, in_process, monkeypatch
):
    def fail(*_):
        raise OSError("gone")

    materialize(with_store, console=QUIET)
    monkeypatch.setattr("feature_store.online.sqlite.SqliteStore.read_queries", fail)
    store = Store(with_store.feature_store, with_store.feature_store_dir)
    with pytest.raises(UserError, match=r"online store does not answer \(gone\); try again"):
        recommend_all(excluding.bundle_dir, tmp_path / "o", online=store, console=QUIET)
    assert not (tmp_path / "o").exists()


def test_forgotten_ids_are_in_no_exclusion(bought, tmp_path):
    """Forgets the last item of a query, which only the later events hold, and another query."""
    config = groceries_config(bought[0], tmp_path / "out", "exclude")
    last = next(query for query in bought[1] if bought[1][query][-1] not in bought[1][query][:-1])
    item = bought[1][last][-1]
    Forgotten().adding("item", [item]).adding("query", ["q7"]).save(config.forgotten_path)
    exported(config)
    snapshot, prepared = read_snapshot(config.bundle_dir), Prepared(config.prepared_dir)
    ids = prepared.item_encoder.ids.tokens.to_pylist()
    assert item not in ids
    assert "q7" not in prepared.query_encoder.ids.tokens.to_pylist()
    names = prepared.query_encoder.ids.tokens.to_pylist()
    for row, query in enumerate(names):
        items = {ids[i] for i in bag_of(snapshot.known, row) | bag_of(snapshot.later, row)}
        assert items == set(bought[1][query]) - {item}


def bag_of(column: Jagged, row: int) -> set[int]:
    return set(column.take(np.array([row])).values.tolist())
