"""The slices of an evaluation have the same bounds wherever they are told."""

import json

import pyarrow.parquet as pq

from pipelines.prepared.reader import Prepared
from pipelines.quality.quality import read_quality
from pipelines.statistics.slices import SliceBounds
from recsys.comparison.runs import find_run


def test_an_evaluation_its_rows_and_the_quality_of_its_log_tell_the_same_bounds(evaluated):
    config = evaluated.config
    bounds = SliceBounds.of(Prepared(config.prepared_dir).item_frequency)
    metrics = json.loads((config.evaluation_dir / "metrics.json").read_text())
    assert SliceBounds.model_validate(metrics["slice_bounds"]) == bounds
    assert list(metrics["slices"]) == ["head", "torso", "tail", "cold"]
    assert find_run(config.output).slice_bounds == bounds
    quality = read_quality(config.prepared_dir)
    assert quality is not None
    assert quality.slice_bounds == bounds
    pages = [config.evaluation_dir / "report.html", config.prepared_dir / "statistics/quality.html"]
    for page in pages:
        assert bounds.ranges() in page.read_text()
    rows = pq.read_table(config.evaluation_dir / "per_query.parquet").to_pylist()
    frequency = pq.read_table(config.prepared_dir / "statistics" / "item_frequency.parquet")
    trained = dict(zip(*(frequency[n].to_pylist() for n in ("item_id", "train")), strict=True))
    told = {
        pair for row in rows for pair in zip(row["held_out"], row["held_out_slice"], strict=True)
    }
    assert told
    for item, name in told:
        assert (name == "head") == (trained[item] > bounds.torso)
        assert (name in ("tail", "cold")) == (trained[item] <= bounds.tail)
