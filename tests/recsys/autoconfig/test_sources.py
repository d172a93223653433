"""`recsys init` on logs with columns inside others and in the names of directories."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from recsys.autoconfig.data_name import data_name
from tests.support.logs.init_logs import START, init, log, write


def days(directory: Path, time: bool, items: int = 60) -> str:
    """Writes the log of `init_logs` by day, with nested ids, and with seconds where `time`."""
    table = log(each=20, items=items)
    day = (table["timestamp"] - START) // 86_400
    for number in np.unique(day):
        rows = day == number
        columns: dict[str, Any] = {
            "payload": pa.array(
                [
                    {"user": {"id": int(query)}, "item": {"id": int(item), "rank": 1}}
                    for query, item in zip(
                        table["query_id"][rows], table["item_id"][rows], strict=True
                    )
                ]
            )
        }
        if time:
            columns["payload_ts"] = table["timestamp"][rows]
        date = np.datetime64("2020-09-13") + number
        write(directory / "events" / f"date={date}" / "part-0.parquet", columns)
    return str(directory / "events")


def test_nested_ids_and_the_date_of_a_directory_are_proposed(tmp_path: Path) -> None:
    items = {
        "payload": pa.array(
            [
                {
                    "item": {
                        "id": number,
                        "genres": [{"name": f"g{number % 7}"}, {"name": f"g{number % 5}"}],
                        "maker": {"country": f"c{number % 4}"},
                        "extra": [("a", 1)],
                    }
                }
                for number in range(60)
            ],
            pa.struct(
                [
                    (
                        "item",
                        pa.struct(
                            [
                                ("id", pa.int64()),
                                ("genres", pa.list_(pa.struct([("name", pa.string())]))),
                                ("maker", pa.struct([("country", pa.string())])),
                                ("extra", pa.map_(pa.string(), pa.int64())),
                            ]
                        ),
                    )
                ]
            ),
        )
    }
    config = init(tmp_path, days(tmp_path, time=False), items)
    columns = config.data.columns
    assert (columns.query_id, columns.item_id) == ("payload.user.id", "payload.item.id")
    assert columns.timestamp == "date"
    assert {f.name: f.kind for f in config.features.item} == {
        "payload.item.id": "id",
        "payload.item.genres.name": "multi_valued",
        "payload.item.maker.country": "categorical",
    }


def test_a_time_inside_the_files_comes_before_the_date_of_their_directory(tmp_path: Path) -> None:
    config = init(tmp_path, days(tmp_path, time=True))
    assert config.data.columns.timestamp == "payload_ts"


@pytest.mark.parametrize(
    ("events", "name"),
    [
        ("s3://AKIA:ab/cd@bucket/shop/events/date=*/", "shop"),
        ("https://host/shop/events?token=abc/def", "shop"),
    ],
)
def test_a_name_holds_no_secret(events: str, name: str) -> None:
    assert data_name(events) == name
