"""Recommendations for all queries are those of one query at a time."""

import shutil
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from typer.testing import CliRunner

import serving
from feature_store.core.errors import UserError
from feature_store.core.manifests import read_manifest
from recsys.cli import app
from serving.batch import recommend_all as bulk
from serving.batch.recommend_all import BulkManifest, recommend_all
from serving.bundle.ids import write_ids
from serving.bundle.manifest import read_manifest as read_bundle_manifest
from serving.bundle.manifest import seal, verify
from serving.recommend.options import RecommendOptions
from tests.support.tiny_bundle import QUERIES

QUIET = Console(quiet=True)
SLOW = pytest.param("ray_session", marks=pytest.mark.slow)
ENGINES = pytest.mark.parametrize("engine", ["in_process", SLOW])


@pytest.fixture
def in_process(monkeypatch):
    """Runs workers in this process, for actors take seconds to start."""

    def run_parts(make, arguments, parts, actors):
        return map(make(*arguments), range(parts))

    monkeypatch.setattr(bulk, "run_parts", run_parts)


def assert_answers(output, bundle, query_ids, k):
    """Compares the parts with the recommender's answers to each query, in order."""
    recommender = serving.load(bundle)
    expected = [
        (query, rank, item.item_id, item.score)
        for query in query_ids
        for rank, item in enumerate(recommender.recommend(query, k).items, 1)
    ]
    parts = [pq.read_table(path) for path in sorted(output.glob("part-*.parquet"))]
    columns = pa.concat_tables(parts).select(["query_id", "rank", "item_id", "score"])
    found = list(zip(*columns.to_pydict().values(), strict=True))
    assert [row[:3] for row in found] == [row[:3] for row in expected]
    assert [row[3] for row in found] == pytest.approx([row[3] for row in expected], abs=1e-6)


@ENGINES
def test_every_query_of_the_bundle_is_answered(exported, tmp_path, engine, request):
    """Checks query 1, which has had all but three items, and gets those."""
    request.getfixturevalue(engine)
    output = tmp_path / "recs"
    manifest = recommend_all(exported, output, k=5, batch_size=4, concurrency=2, console=QUIET)
    assert_answers(output, exported, [str(query) for query in range(QUERIES)], 5)
    assert (manifest.queries, manifest.fallbacks, manifest.parts) == (QUERIES, 0, 7)
    assert manifest.recommendations == 5 * (QUERIES - 1) + 3
    assert manifest.fingerprint == verify(exported).fingerprint
    assert read_manifest(output, BulkManifest) == manifest
    names = {"manifest.json", *(f"part-{part:05d}.parquet" for part in range(7))}
    assert {path.name for path in output.iterdir()} == names


def test_the_command_gives_more_of_the_tail(tiny_fused, tmp_path, in_process):
    bundle, output = tiny_fused.bundle_dir, tmp_path / "recs"
    command = ["recommend", str(bundle), "-o", str(output), "--all", "-k", "3", "--json"]
    found = CliRunner().invoke(app, [*command, "--tail", "0.8"])
    assert found.exit_code == 0, found.output
    assert read_manifest(output, BulkManifest).tail == 0.8
    rows = pq.read_table(output / "part-00000.parquet").to_pylist()
    recommender, tails = serving.load(bundle), (0.8, 0.0)
    expected, validated = (
        [
            (str(query), item.item_id)
            for query in range(QUERIES)
            for item in recommender.recommend(str(query), 3, RecommendOptions(tail=tail)).items
        ]
        for tail in tails
    )
    assert [(row["query_id"], row["item_id"]) for row in rows] == expected != validated
    refused = CliRunner().invoke(app, [*command, "--tail", "1.2"])
    assert refused.exit_code != 0


def test_queries_of_a_file_are_answered_in_its_order(exported, tmp_path, in_process):
    """Uses integers as ids; some are unknown, and one comes twice."""
    asked = [7, 3, 999, 7, 0, 1000]
    pq.write_table(pa.table({"query_id": asked, "age": asked}), tmp_path / "queries.parquet")
    moment = datetime(2024, 1, 2, 3)
    manifest = recommend_all(
        exported,
        tmp_path / "recs",
        k=3,
        queries=tmp_path / "queries.parquet",
        at=moment,
        batch_size=5,
        console=QUIET,
    )
    assert_answers(tmp_path / "recs", exported, [str(query) for query in asked], 3)
    assert (manifest.queries, manifest.fallbacks, manifest.parts) == (6, 2, 2)
    assert manifest.recommendations == 3 * len(asked)
    assert manifest.at == moment.replace(tzinfo=UTC).isoformat()


def test_an_earlier_output_is_replaced_whole(exported, tmp_path, in_process):
    output = tmp_path / "recs"
    recommend_all(exported, output, queries=["1", "2", "3"], batch_size=1, console=QUIET)
    manifest = recommend_all(exported, output, k=2, queries=["3"], console=QUIET)
    assert_answers(output, exported, ["3"], 2)
    assert manifest.parts == 1
    assert {path.name for path in output.iterdir()} == {"manifest.json", "part-00000.parquet"}


def test_forgotten_queries_are_left_out(exported, tmp_path, in_process):
    bundle = shutil.copytree(exported, tmp_path / "bundle")
    ids = pa.array(["0", None, "2", *[None] * (QUERIES - 3)])
    write_ids(bundle / "ids", "query", ids)
    sealed = seal(bundle, read_bundle_manifest(bundle))
    manifest = recommend_all(bundle, tmp_path / "recs", batch_size=2, console=QUIET)
    assert_answers(tmp_path / "recs", bundle, ["0", "2"], 10)
    assert (manifest.fingerprint, manifest.parts) == (sealed.fingerprint, 2)


def test_what_an_actor_refuses_is_told_and_leaves_nothing(
    exported, tmp_path, monkeypatch, ray_session
):
    """Fails as where a machine has another copy of the bundle."""
    bundle = shutil.copytree(exported, tmp_path / "bundle")
    manifest = verify(bundle)
    (bundle / "index.faiss").write_bytes(b"damaged")
    monkeypatch.setattr(bulk, "verify", lambda _: manifest)
    with pytest.raises(UserError, match=r"index\.faiss of the bundle"):
        recommend_all(bundle, tmp_path / "recs", concurrency=1, console=QUIET)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_no_queries_make_no_parts(exported, tmp_path):
    manifest = recommend_all(exported, tmp_path / "recs", queries=[], console=QUIET)
    assert (manifest.queries, manifest.parts) == (0, 0)
    assert [path.name for path in (tmp_path / "recs").iterdir()] == ["manifest.json"]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"user": ["1"]}, "has no column 'query_id'; it has: user; rename the one with the ids."),
        ({"query_id": [True]}, "is bool, expected string or integer; convert it."),
        ({"query_id": ["1", None]}, "1 ids of .* are null or invalid; leave these rows out."),
        ({"query_id": [1.0, 1.5]}, "1 ids of .* are null or invalid; leave these rows out."),
    ],
)
def test_a_file_that_holds_no_ids_is_refused(exported, tmp_path, table, message):
    path = tmp_path / "queries.parquet"
    pq.write_table(pa.table(table), path)
    with pytest.raises(UserError, match=message):
        recommend_all(exported, tmp_path / "recs", queries=path, console=QUIET)
    assert [path.name for path in tmp_path.iterdir()] == ["queries.parquet"]


def test_mistakes_are_told_before_anything_is_read(exported, tmp_path):
    with pytest.raises(UserError, match="k is 0, expected 1 to 1000"):
        recommend_all(exported, tmp_path / "recs", k=0, console=QUIET)
    with pytest.raises(UserError, match="is not a bundle"):
        recommend_all(tmp_path, tmp_path / "recs", console=QUIET)
    (tmp_path / "letter.txt").write_text("keep")
    with pytest.raises(UserError, match=r"holds something else, such as letter.txt; choose"):
        recommend_all(exported, tmp_path, console=QUIET)
    assert (tmp_path / "letter.txt").exists()
