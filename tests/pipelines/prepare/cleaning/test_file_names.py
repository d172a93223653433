"""No file name in the prepared data holds a forgotten id."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from feature_store.forgotten import Forgotten
from pipelines.prepare.cleaning.file_names import without_forgotten
from pipelines.prepare.prepare import prepare
from pipelines.settings import DataConfig
from tests.support.prepare_logs import IDS_ONLY, LOCAL

FORGOTTEN = Forgotten().adding("query", ["ann", "a b"]).adding("item", ["B7"])


def test_parts_that_are_ids_are_replaced() -> None:
    files = {
        "log/user_id=ann/part-0.parquet": "log/user_id=(forgotten)/part-0.parquet",
        "log/user_id=a%20b/x": "log/user_id=(forgotten)/x",
        "log/ann/B7.parquet": "log/(forgotten)/(forgotten)",
        "log/user_id=anna/B70.parquet": "log/user_id=anna/B70.parquet",
        "s3://bucket/user_id=ann/x": "s3://bucket/user_id=(forgotten)/x",
    }
    assert without_forgotten(files, FORGOTTEN) == list(files.values())
    assert without_forgotten(files, Forgotten()) == list(files)


def test_the_manifest_names_no_directory_of_a_forgotten_query(tmp_path: Path) -> None:
    for name in ("ann-of-green-gables", "bob"):
        path = tmp_path / "log" / f"query_id={name}" / "0.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(pa.table({"item_id": range(20), "timestamp": range(20)}), path)
    prepare(
        DataConfig(events=str(tmp_path / "log")),
        IDS_ONLY,
        tmp_path / "out",
        executor=LOCAL,
        forgotten=Forgotten().adding("query", ["ann-of-green-gables"]),
        console=Console(quiet=True),
    )
    written = (tmp_path / "out" / "manifest.json").read_text()
    assert "query_id=bob" in written
    assert "query_id=(forgotten)" in written
    assert "green-gables" not in written
