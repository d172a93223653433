"""Features as `prepare` learns them, which does not depend on how their table is cut into files."""

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from feature_store.core.columns import Dense, Jagged
from feature_store.schema import FeatureSchema
from pipelines.prepare.prepare import prepare
from pipelines.prepared.reader import Prepared
from pipelines.settings import DataConfig
from tests.support.prepare_logs import LOCAL, items_table, random_events, run, write_log

PARTS = {"tokens": "words_and_ngrams", "ngrams": [3, 4]}
FEATURES = FeatureSchema.model_validate(
    {
        "item": [
            {"name": "item_id", "kind": "id", "dim": 4},
            {"name": "tags", "kind": "sequence", "dim": 4, "max_length": 2},
            {"name": "title", "kind": "text", "dim": 4, **PARTS},
            {"name": "brand", "kind": "categorical", "dim": 4, "hash_buckets": 7},
            {"name": "price", "kind": "numeric", "dim": 4, "scaling": "quantile"},
        ],
    }
)


def learnt(prepared: Prepared) -> dict[str, str]:
    """Reads all that is written about features, but not the Parquet files' own details."""
    directory = prepared.directory
    found = {
        str(path.relative_to(directory)): path.read_text()
        for path in directory.rglob("item.*.json")
    }
    for path in (directory / "vocabulary").glob("item.*.parquet"):
        found[path.name] = str(pq.read_table(path).to_pydict())
    return found


def test_however_the_items_are_cut(tmp_path: Path) -> None:
    items = items_table()
    log = write_log(tmp_path, events=random_events(5), items=items)
    cut = tmp_path / "cut"
    cut.mkdir()
    for start, end in ((0, 1), (1, 40), (40, 60)):
        pq.write_table(items.slice(start, end - start), cut / f"items-{start:02d}.parquet")
    whole = run(tmp_path / "whole", FEATURES, **log)
    pieces = run(tmp_path / "pieces", FEATURES, **{**log, "items": str(cut)})
    assert set(learnt(whole)) == {
        "statistics/item.hashing.json",
        "vocabulary/item.scaling.json",
        "item.tags.parquet",
        "item.title.parquet",
    }
    assert learnt(whole) == learnt(pieces)
    tags, price = whole.item_columns["tags"], whole.item_columns["price"]
    assert isinstance(tags, Jagged)
    assert isinstance(price, Dense)
    assert set(tags.lengths.tolist()) == {0, 1, 2}
    last = whole.item_encoder.vocabularies["tags"].rows(pa.array(["t1", "t2"]))
    row = whole.item_encoder.ids.rows(pa.array(["i3"]))
    assert tags.take(row).values.tolist() == last.tolist()
    known = price.values[price.present, 0]
    assert known.mean() == pytest.approx(0, abs=1e-6)
    assert known.max() == pytest.approx(-known.min())
    assert known.max() < 1


def test_many_collisions_are_counted_and_told(tmp_path: Path) -> None:
    log = write_log(tmp_path, events=random_events(5), items=items_table())
    text = io.StringIO()
    console = Console(file=text)
    prepare(
        DataConfig.model_validate(log), FEATURES, tmp_path / "out", executor=LOCAL, console=console
    )
    assert "the 9 tokens of item.brand share a row" in text.getvalue()
    path = tmp_path / "out" / "statistics" / "item.hashing.json"
    found = json.loads(path.read_text())
    assert set(found) == {"item.brand"}
    brand = found["item.brand"]
    assert (brand["tokens"], brand["buckets"], brand["is_exact"]) == (9, 7, True)
    # Seven rows cannot hold nine brands apart.
    assert brand["colliding_tokens"] >= 3 / 9
    used = Prepared(tmp_path / "out").item_columns["brand"]
    assert isinstance(used, Jagged)
    assert brand["used_rows"] == len(set(used.values.tolist()))


def test_joined_strings_are_learnt_as_the_lists_that_they_stand_for(tmp_path: Path) -> None:
    items = items_table()
    joined = pa.array([" | ".join(tags) or None for tags in items["tags"].to_pylist()])
    place = items.column_names.index("tags")
    given = FeatureSchema.model_validate(
        {"item": [{"name": "tags", "kind": "multi_valued", "dim": 4, "delimiter": "|"}]}
    )
    lists = FeatureSchema.model_validate(
        {"item": [{"name": "tags", "kind": "multi_valued", "dim": 4}]}
    )
    log = write_log(tmp_path, events=random_events(5), items=items)
    whole = run(tmp_path / "lists", lists, **log)
    log = write_log(
        tmp_path, events=random_events(5), items=items.set_column(place, "tags", joined)
    )
    split = run(tmp_path / "joined", given, **log)
    assert learnt(whole) == learnt(split)
    expected, found = whole.item_columns["tags"], split.item_columns["tags"]
    assert isinstance(expected, Jagged)
    assert isinstance(found, Jagged)
    assert found.values.tolist() == expected.values.tolist()
    assert found.offsets.tolist() == expected.offsets.tolist()
    quality = json.loads((split.directory / "statistics" / "quality.json").read_text())
    assert "t0 | t1" not in json.dumps(quality)


def test_numbers_and_dates_of_text_are_learnt_and_others_are_counted(tmp_path: Path) -> None:
    features = FeatureSchema.model_validate(
        {
            "item": [
                {"name": "price", "kind": "numeric", "dim": 4},
                {"name": "out", "kind": "date", "dim": 4, "scaling": "quantile"},
            ]
        }
    )
    items = items_table()
    price = items.column_names.index("price")
    texts = [str(float(i)) if i % 7 else "Unknown" for i in range(60)]
    out = [f"20{10 + i % 12:02}-0{1 + i % 9}-11" if i % 6 else "soon" for i in range(60)]
    items = items.set_column(price, "price", pa.array(texts)).append_column("out", pa.array(out))
    log = write_log(tmp_path, events=random_events(5), items=items)
    console = Console(file=io.StringIO(), record=True, width=300)
    data = DataConfig.model_validate(log)
    prepare(data, features, tmp_path / "out", executor=LOCAL, console=console)
    said = console.export_text()
    assert "items: 9 values of 'price' are no numbers: absent" in said
    assert "items: 10 values of 'out' are no dates: absent" in said
    found = Prepared(tmp_path / "out").item_columns
    assert isinstance(found["price"], Dense)
    assert isinstance(found["out"], Dense)
    assert (found["price"].present.sum(), found["out"].present.sum()) == (51, 50)
