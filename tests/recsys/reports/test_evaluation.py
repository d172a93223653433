"""The report and the table: figures, titles, warnings, and nothing from outside."""

import io
import json
import re
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from feature_store.encoding.vocabulary import Vocabulary
from feature_store.kinds import IdFeature, TextFeature
from feature_store.schema import FeatureSchema
from pipelines.prepared.manifest import (
    Counts,
    InformationMatrices,
    MutualInformation,
    PreparedManifest,
)
from pipelines.reports.html import render_page
from recsys.config.load import parse_config
from recsys.evaluation.metrics import SLICES, Measured, metric_names
from recsys.evaluation.results import SHOWN, EvaluationResult, print_table
from recsys.evaluation.titles import item_titles
from recsys.reports.evaluation import evaluation_page
from recsys.reports.run.run_data import RunData
from tests.support.outline import Outline

FEATURES = FeatureSchema(
    item=(IdFeature(name="item_id", dim=4), TextFeature(name="words", dim=4)),
)


def config(items=None):
    return parse_config(
        {
            "output": "unused",
            "data": {"events": "unused", "items": items},
            "features": FEATURES.model_dump(),
        }
    )


def measured(value, counts=(600, 300, 80, 20)):
    figures = {}
    first = ("recall@10", "recall@50", "hit_rate@10")
    for place, name in enumerate(dict.fromkeys([*first, *metric_names()])):
        figures[name] = value + place / 100
        figures[f"{name}_ci"] = (value + place / 100 - 0.005, value + place / 100 + 0.005)
    slices = {
        name: {**(figures if count else dict.fromkeys(figures)), "count": count}
        for name, count in zip(SLICES, counts, strict=True)
    }
    return Measured(overall=figures, slices=slices)


def result(value=0.4321, counts=(600, 300, 80, 20)):
    return EvaluationResult(
        **measured(value, counts).model_dump(),
        counts={"queries": 321, "held_out": 1000, "already_seen": 4, "items": 12_345},
        baselines={"popularity": measured(0.2, counts), "item_knn": measured(0.5, counts)},
        split="random_hash",
        history="others",
        prepared_fingerprint="abc",
        training_fingerprint="def",
        mlflow_run_id="run-1",
    )


def prepared():
    names = tuple(feature.name for feature in FEATURES.item)
    zeros = ((0.0, 0.0), (0.0, 0.0))
    return SimpleNamespace(
        manifest=PreparedManifest(
            fingerprint="abc",
            schema_fingerprint="s",
            data=config().data,
            features=FEATURES,
            sources={"events": ["a.parquet", "b.parquet"]},
            as_of="2021-02-03T00:00:00+00:00",
            first_event="2020-01-02T03:04:05+00:00",
            last_event=None,
            counts=Counts(
                events_read=98_765,
                train=1,
                validation=2,
                test=3,
                items=12_345,
                queries=6,
                items_in_training=7,
                rejected={"events: item <b> unknown": 4321},
            ),
        ),
        mutual_information=MutualInformation(
            features=names,
            items=InformationMatrices(
                raw=((9.42, 3.17), (3.17, 5.03)),
                normalised=((1, 0.63), (0.63, 1)),
                corrected=zeros,
            ),
            interactions=InformationMatrices(raw=zeros, normalised=zeros, corrected=zeros),
        ),
    )


CURVES = [
    {"step": 10, "examples_per_second": 5.0, "main": 6.125},
    {"step": 20, "main": 4.5},
    {"step": 20, "validation.recall@50": 0.31, "validation.recall@10": None},
]


@pytest.fixture
def report(tmp_path):
    """Renders the page of an evaluation whose files are written to a directory."""

    def render(evaluated, curves=CURVES):
        (tmp_path / "evaluation").mkdir()
        (tmp_path / "evaluation" / "metrics.json").write_text(evaluated.model_dump_json())
        (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(c)}\n" for c in curves))
        queries = {
            "query_id": ["q<1>"],
            "history": [["i1"]],
            "history_length": [1],
            "held_out_slice": [["tail", "cold", "cold"]],
            "held_out": [["i2", "i3", "i4"]],
            "model.items": [["i2"]],
            "model.ranks": [[0, None, None]],
            "popularity.items": [["i1"]],
        }
        items = {
            "item_id": ["i1", "i2", "i3"],
            "title": ["<script>alert(1)</script>", "A & B", "C"],
            "slice": ["head", "tail", "cold"],
            "frequency": [7, 1, 0],
            "x": [0.0, 1.0, None],
            "y": [1.0, 0.0, None],
            "similar": [[1], [0], None],
            "cosine": [[0.5], [0.5], None],
        }
        empty = {name: [] for name in queries}
        rows = queries if evaluated.counts["queries"] else empty
        pq.write_table(pa.table(rows), tmp_path / "evaluation" / "per_query.parquet")
        pq.write_table(pa.table(items), tmp_path / "evaluation" / "items.parquet")

        def find(name):
            path = tmp_path / name
            return path if path.is_file() else None

        run = RunData("recsys", "run-1", find)
        return render_page(evaluation_page(run, prepared(), config(), best_step=20))

    return render


def test_the_report_holds_the_figures_and_is_well_formed(report):
    outline = Outline(report(result()))
    text = " ".join(outline.text.split())
    for expected in (
        "0.432",
        "0.427-0.437",
        "Recall@50 is 0.442",
        "2.11 times that of popularity",
        "98,765",
        "4,321",
        "item <b> unknown",
        "3.17",
        "A & B ✓ held out",
        "Query q<1>: 1 of 3 held-out items in the first 10; finds A & B at rank 1",
        "2020-01-02 03:04 UTC",
        "2 of events",
        "run-1",
    ):
        assert expected in text
    spoken = outline.spoken
    (loss,) = [each for each in spoken if each.startswith("Main loss: ")]
    assert "Lower is better" in loss
    assert "6.125" in text
    assert "4.5" in text
    of_training = [e for e in spoken if e.startswith(("Main loss", "Validation", "Examples per"))]
    assert len(of_training) == 2  # Speed and metrics without values are left out.


def test_the_report_escapes_names_and_needs_nothing_from_outside(report):
    page = report(result())
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "q<1>" not in page
    assert not re.search(r"https?://|url\(|@import|<link|<img|src=", page)


def test_the_figures_are_those_of_the_json(report):
    outline = Outline(report(result()))
    shown = {float(number) for number in re.findall(r"\b0\.\d{3}\b", outline.text)}
    for figures in (result().overall, result().baselines["item_knn"].overall):
        assert {round(figures[name], 3) for name in SHOWN} <= shown


def test_history_and_hits_are_shown_by_title(report):
    text = " ".join(Outline(report(result())).text.split())
    assert "1 A & B ✓ held out <script>alert(1)</script> A & B (rank 1, tail)" in text
    assert "C (not in the list, cold)" in text
    assert "i4 (not in the list, cold)" in text  # `i4` has no title.
    assert "Items like <script>alert(1)</script> (i1)" in text
    assert "Items like A & B" not in text  # One training event tells little.


def test_a_report_without_anything_to_find_can_be_read(report):
    empty = Measured(
        overall=dict.fromkeys(measured(0.1).overall),
        slices=measured(0.1, (0, 0, 0, 0)).slices,
    )
    nothing = result().model_copy(
        update={
            "overall": empty.overall,
            "slices": empty.slices,
            "baselines": {"popularity": empty, "item_knn": empty},
            "counts": {"queries": 0, "held_out": 0, "already_seen": 0, "items": 3},
        }
    )
    assert "the test split has no held-out items" in Outline(report(nothing, curves=[])).text


def printed(shown, width=80):
    console = Console(file=io.StringIO(), width=width)
    print_table(shown, console)
    return console.file.getvalue()


def test_the_table_has_every_method_in_every_group_without_cuts():
    lines = printed(result()).splitlines()
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert "…" not in text
    for label in ("overall 1,000", "head 600", "torso 300", "tail 80", "cold 20"):
        assert label in text
    assert [text.count(name) for name in ("this model", "popularity", "item-kNN")] == [5, 5, 5]
    assert "0.427-0.437" in text
    assert "warning" not in text


def test_a_model_that_loses_to_popularity_is_warned_of(report):
    assert "warning: the model is worse than popularity: Recall@10 0.100 against 0.200" in printed(
        result(0.1)
    )
    assert "the model is worse than popularity" in Outline(report(result(0.1))).text
    # 0.1996 and 0.2000 are the same figure in the table.
    assert "worse than popularity" not in printed(result(0.1996))


FEW = "100 of 1,100 held-out pairs of the test split (9.1%) are left out, because the query had"
MANY = "4,000 of 5,000 held-out pairs of the test split (80.0%) are left out, because the query had"
AGAIN = "250 of 1,000 held-out pairs of the test split (25.0%) are items that the query had before"


@pytest.mark.parametrize(
    ("repeats", "counts", "words", "is_warning"),
    [
        ("exclude", {"already_seen": 100}, FEW, False),
        ("exclude", {"already_seen": 4000}, MANY, True),
        ("allow", {"already_seen": 0, "repeated": 250}, AGAIN, False),
    ],
)
def test_pairs_that_the_query_had_before_are_counted(report, repeats, counts, words, is_warning):
    found = result().model_copy(
        update={"counts": {**result().counts, **counts}, "repeats": repeats}
    )
    lines = " ".join(printed(found, width=300).split())
    text = " ".join(Outline(report(found)).text.split())
    assert words in lines
    assert words in text
    assert (f"warning: {words}" in lines) == (f"Warning: {words}" in text) == is_warning
    assert ("set data.repeats: allow" in text) == is_warning
    ranked = {"exclude": "are not ranked", "allow": "are ranked like all others"}[repeats]
    assert f"Items that the query is known to have {ranked}." in text
    assert f"Items that a query has had {repeats} (data.repeats)" in text


def catalogue(*ids):
    tokens = pa.array(ids)
    return SimpleNamespace(ids=Vocabulary(tokens, pa.array([1] * len(ids)), 0))


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"Title": ["Two", None, "Zero"], "words": ["x", "y", "z"]}, ["Zero", "b", "Two"]),
        ({"words": ["two", " ", "zero"]}, ["zero", "b", "two"]),
        ({"brand": ["two", "one", "zero"]}, None),
    ],
)
def test_titles_are_in_the_order_of_the_catalogue(tmp_path, columns, expected):
    path = tmp_path / "items.parquet"
    pq.write_table(pa.table({"item_id": ["c", "b", "a"], **columns}), path)
    titles = item_titles(config(str(path)), SimpleNamespace(item_encoder=catalogue("a", "b", "c")))
    assert (titles if titles is None else titles.to_pylist()) == expected
