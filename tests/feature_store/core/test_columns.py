"""Columns on disk: values that come in parts give the same file."""

import numpy as np

from feature_store.core.columns import Jagged, write_bags, write_columns


def test_bags_in_parts_are_the_same_file(tmp_path):
    random = np.random.default_rng(0)
    lengths = {"a": random.integers(0, 9, 50), "none": np.zeros(50, int), "b": np.full(50, 3)}
    columns = {
        name: Jagged.from_lengths(random.integers(0, 99, size.sum()).astype(np.int32), size)
        for name, size in lengths.items()
    }
    write_columns(tmp_path / "whole.arrow", columns)
    parts = [
        (name, int(first), column.values[first : first + 40])
        for name, column in columns.items()
        for first in range(0, len(column.values), 40)
    ]
    offsets = {name: column.offsets for name, column in columns.items()}
    write_bags(tmp_path / "parts.arrow", offsets, iter(parts[::-1]))
    assert (tmp_path / "parts.arrow").read_bytes() == (tmp_path / "whole.arrow").read_bytes()


def test_values_are_kept_with_their_row():
    bags = Jagged.from_lengths(np.arange(6), np.array([2, 0, 3, 1]))
    kept = bags.keep(np.array([False, True, False, False, True, False]))
    assert kept.values.tolist() == [1, 4]
    assert kept.offsets.tolist() == [0, 1, 1, 2, 2]


def test_one_row_is_taken_as_several_are():
    bags = Jagged.from_lengths(np.arange(6, dtype=np.int32), np.array([2, 0, 3, 1]))
    for row in range(4):
        one, two = bags.take(np.array([row])), bags.take(np.array([row, 0]))
        assert one.values.tolist() == two.values[: -len(bags.values[:2])].tolist()
        assert one.offsets.tolist() == two.offsets[:2].tolist()
        assert one.values.dtype == two.values.dtype
