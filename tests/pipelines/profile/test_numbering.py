"""Whole numbers that count rows are told from measures and times."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.logs.sampling import open_table
from pipelines.profile.numbering import Numbering, profile_numbering

RANDOM = np.random.default_rng(0)
START = 1_700_000_000


def profiled(directory: Path, *files: Any, row_group_size: int = 1000) -> Numbering | None:
    for number, values in enumerate(files):
        table = pa.table({"n": values})
        pq.write_table(table, directory / f"{number}.parquet", row_group_size=row_group_size)
    return profile_numbering(open_table(str(directory), "items"), "n")


@pytest.mark.parametrize(
    "values",
    [
        np.arange(40),
        np.arange(1, 41, dtype=np.int8),
        np.arange(700, 740),
        np.arange(60)[RANDOM.random(60) < 0.8],
        np.arange(40.0),
        [str(i) for i in range(40)],
        np.arange(40, dtype=np.uint64),
        pa.array([None, *range(40)]),
    ],
    ids=["from 0", "from 1", "from 700", "filtered", "floats", "text", "unsigned", "with a null"],
)
def test_rows_in_order_are_counted(tmp_path: Path, values: Any) -> None:
    found = profiled(tmp_path, values)
    assert found is not None
    assert found.counts
    assert found.unique == 1
    assert not found.times


def test_every_file_may_begin_anew(tmp_path: Path) -> None:
    found = profiled(tmp_path, *[np.arange(30)] * 4, row_group_size=10)
    assert found is not None
    assert (found.counts, found.unique) == (True, 0.25)


def test_a_shuffled_index_is_a_permutation(tmp_path: Path) -> None:
    found = profiled(tmp_path, RANDOM.permutation(50))
    assert found is not None
    assert (found.counts, found.permutes) == (False, True)


@pytest.mark.parametrize(
    "values",
    [
        np.arange(1970, 2010),
        RANDOM.permutation(np.arange(20, 80)),
        np.sort(RANDOM.choice(90_000, 60, replace=False)),
        RANDOM.integers(0, 60, 60),
        START + 60 * np.arange(50),
        1000 * START + np.arange(50),
        np.repeat(np.arange(20), 2),
        np.arange(4),
        [0.5 * i for i in range(40)],
        [True, False] * 20,
        ["a", *map(str, range(40))],
    ],
    ids=[
        "years",
        "ages",
        "sorted prices",
        "counts",
        "seconds",
        "milliseconds",
        "pairs",
        "four rows",
        "fractions",
        "booleans",
        "words",
    ],
)
def test_other_numbers_count_nothing(tmp_path: Path, values: Any) -> None:
    found = profiled(tmp_path, values)
    assert found is None or found.times or not (found.counts or found.permutes)


def test_times_and_long_numbers_are_known(tmp_path: Path) -> None:
    for number, unit in enumerate((1, 1_000, 1_000_000, 1_000_000_000)):
        directory = tmp_path / str(number)
        directory.mkdir()
        times = profiled(directory, unit * (START + RANDOM.integers(0, 10**7, 50)))
        assert times is not None
        assert times.times
    (tmp_path / "hashes").mkdir()
    hashes = profiled(tmp_path / "hashes", RANDOM.integers(0, 2**64 - 1, 50, dtype=np.uint64))
    assert hashes is not None
    assert (hashes.long, hashes.times) == (True, False)
