"""Logs of every layout and type: exactly the columns that the configuration names are read."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store.core.errors import UserError
from feature_store.schema import FeatureSchema
from pipelines.logs.sampling import open_table
from pipelines.logs.tables import (
    Piece,
    list_files,
    open_source,
    open_sources,
    piece_identity,
    read_piece,
)
from pipelines.settings import DataConfig


def write(path: Path, columns: dict[str, Any] | pa.Table, rows: int | None = None) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = columns if isinstance(columns, pa.Table) else pa.table(columns)
    pq.write_table(table, path, row_group_size=rows)
    return str(path)


def read(path: str, *columns: str) -> dict[str, list[Any]]:
    """Reads columns piece by piece, and checks that a sample of the table agrees."""
    source = open_source(path, "events")
    pieces = pa.concat_tables([read_piece(piece, list(columns)) for piece in source.pieces])
    assert pieces.schema.types == [source.schema.field(name).type for name in columns]
    sampled = pa.concat_tables(open_table(path, "events").sample(columns, 1_000))
    assert sampled.equals(pieces)
    return pieces.to_pydict()


def test_directories_give_columns(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for day, kind in (("2026-11-22", "view"), ("2026-11-23", "a%2Fb"), ("%41", "")):
        write(log / f"date={day}/_kind={kind}/part.parquet", {"x": [day]})
    write(log / "date=__HIVE_DEFAULT_PARTITION__/_kind=view/part.parquet", {"x": ["none"]})
    assert read(str(log), "date", "x", "_kind") == {
        "date": ["A", "2026-11-22", "2026-11-23", None],
        "x": ["%41", "2026-11-22", "2026-11-23", "none"],
        "_kind": ["", "view", "a/b", "view"],
    }
    assert read(str(log), "_kind")["_kind"] == ["", "view", "a/b", "view"]
    assert read(f"file://{log}", "date")["date"] == ["A", "2026-11-22", "2026-11-23", None]
    # A part of the log has the same columns.
    assert read(str(log / "date=2026-11-22"), "date")["date"] == ["2026-11-22"]
    assert read(f"{log}/date=2026-*", "date")["date"] == ["2026-11-22", "2026-11-23"]
    whole = read_piece(open_source(str(log), "events").pieces[1])
    assert whole.to_pydict() == {"x": ["2026-11-22"], "date": ["2026-11-22"], "_kind": ["view"]}


def test_absent_vectors_of_a_fixed_length_are_read(tmp_path: Path) -> None:
    vectors = pa.array([[1.0, 2.0], None, [3.0, 4.0]], pa.list_(pa.float32(), 2))
    inner = pa.StructArray.from_arrays([vectors], ["v"])
    path = write(tmp_path / "a.parquet", {"id": ["a", "b", "c"], "v": vectors, "s": inner}, 2)
    assert read(path, "v", "id", "s.v") == {
        "v": vectors.to_pylist(),
        "id": ["a", "b", "c"],
        "s.v": vectors.to_pylist(),
    }
    whole = read_piece(open_source(path, "items").pieces[0])
    assert whole["v"].to_pylist() == vectors.to_pylist()
    assert whole.schema.metadata is None


def test_a_column_of_the_file_comes_before_one_of_its_directory(tmp_path: Path) -> None:
    write(tmp_path / "date=1/a.parquet", {"date": [7]})
    write(tmp_path / "b.parquet", {"date": [8]})
    assert read(str(tmp_path), "date") == {"date": [8, 7]}


def test_directories_of_one_table_give_the_same_columns(tmp_path: Path) -> None:
    write(tmp_path / "date=1/a.parquet", {"x": [1]})
    write(tmp_path / "hour=1/a.parquet", {"x": [1]})
    with pytest.raises(UserError, match=r"give the columns 'hour', those of .* 'date'"):
        open_source(str(tmp_path), "events")


ITEMS = pa.array(
    [
        {"id": 1, "tag": ["a", None], "parts": [{"name": "x", "n": 1}, None, {"name": None}]},
        None,
        {"id": 2, "tag": None, "parts": []},
        {"id": None, "tag": [], "parts": None},
    ],
    pa.struct(
        [
            ("id", pa.int64()),
            ("tag", pa.large_list(pa.dictionary(pa.int32(), pa.large_string()))),
            ("parts", pa.list_(pa.struct([("name", pa.string()), ("n", pa.int64())]))),
        ]
    ),
)


def test_columns_inside_structs_and_lists_of_structs(tmp_path: Path) -> None:
    table = pa.table({"item": ITEMS, "item.n": [5, 6, 7, 8], "deep": ITEMS, "n": [1, 2, 3, 4]})
    path = write(tmp_path / "log.parquet", table, rows=3)
    source = open_source(path, "events")
    inside = ["id", "tag", "parts.name", "parts.n"]
    names = [*(f"item.{name}" for name in inside), "item.n", *(f"deep.{name}" for name in inside)]
    assert source.schema.names == [*names, "n"]
    assert read(path, "n", "item.parts.name", "item.id", "item.tag", "item.n", "deep.parts.n") == {
        "n": [1, 2, 3, 4],
        "item.parts.name": [["x", None, None], None, [], None],
        "item.id": [1, None, 2, None],
        "item.tag": [["a", None], None, None, []],
        "item.n": [5, 6, 7, 8],
        "deep.parts.n": [[1, None, None], None, [], None],
    }


def test_a_column_whose_own_name_has_a_dot_comes_first(tmp_path: Path) -> None:
    inner = pa.array([{"b": 1, "b.c": 3}])
    path = write(tmp_path / "a.parquet", pa.table({"a": inner, "a.b": ["own"]}))
    assert read(path, "a.b", "a.b.c") == {"a.b": ["own"], "a.b.c": [3]}


def test_only_the_leaves_that_are_named_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write(path, {"item": pa.array([{"id": 1, "text": os.urandom(1_000).hex()}])})
    raw = bytearray(path.read_bytes())
    start = pq.ParquetFile(path).metadata.row_group(0).column(1).dictionary_page_offset
    raw[start : start + 40] = b"\xff" * 40  # `item.text` is damaged.
    path.write_bytes(raw)
    assert read(str(path), "item.id") == {"item.id": [1]}
    with pytest.raises(UserError, match="cannot read"):
        read(str(path), "item.text")


WORDS = [["a"], None, ["b", "a"], []]
PAIRS = [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (pa.array(["a", None, "b"], pa.string_view()), pa.string()),
        (pa.array(["a", None, "b"], pa.large_string()).dictionary_encode(), pa.string()),
        (pa.array([3, 4, 3]).dictionary_encode(), pa.int64()),
        (pa.array(WORDS, pa.large_list(pa.string())), pa.list_(pa.string())),
        (pa.array(WORDS, pa.list_view(pa.string_view())), pa.list_(pa.string())),
        (pa.array(WORDS, pa.large_list_view(pa.string())), pa.list_(pa.string())),
        (pa.array(WORDS, pa.list_(pa.dictionary(pa.int8(), pa.string()))), pa.list_(pa.string())),
        (pa.array(PAIRS, pa.list_(pa.float32(), 2)), pa.list_(pa.float32(), 2)),
        (
            pa.FixedShapeTensorArray.from_numpy_ndarray(
                pa.array([1.0, 2, 3, 4]).to_numpy().reshape(2, 2)
            ),
            pa.list_(pa.float64(), 2),
        ),
        (pa.array([None, None], pa.null()), pa.null()),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_however_a_type_is_stored(tmp_path: Path, array: pa.Array, expected: pa.DataType) -> None:
    plain = array.storage if isinstance(array, pa.ExtensionArray) else array
    one = write(
        tmp_path / "one.parquet", {"x": array, "s": pa.StructArray.from_arrays([array], ["y"])}
    )
    values = read(one, "x", "s.y")
    assert values == {"x": plain.to_pylist(), "s.y": plain.to_pylist()}
    kind = open_source(one, "events").schema.field("x").type
    assert kind.equals(expected) or str(kind) == str(expected).replace("item:", "element:")


def test_chunks_with_different_dictionaries(tmp_path: Path) -> None:
    kind = pa.list_(pa.dictionary(pa.int32(), pa.string()))
    chunks = [pa.array([["a", "b"]], kind), pa.array([["c"], ["b"]], kind)]
    path = write(tmp_path / "a.parquet", pa.table({"x": pa.chunked_array(chunks)}), rows=1)
    assert read(path, "x") == {"x": [["a", "b"], ["c"], ["b"]]}
    whole = read_piece(open_source(path, "events").pieces[0])
    assert whole.take(pa.array([2, 0])).to_pydict() == {"x": [["b"], ["a", "b"]]}


def config(events: str, items: str | None = None, **columns: str) -> DataConfig:
    return DataConfig.model_validate({"events": events, "items": items, "columns": columns})


def test_the_configuration_names_columns_inside_others(tmp_path: Path) -> None:
    items = pa.table(
        {
            "item": pa.array([{"id": 1, "genres": [{"name": "x"}]}]),
            "extra": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
        }
    )
    events = {"u": pa.array([{"id": "a"}]), "item": pa.array([{"id": 1}])}
    data = config(
        write(tmp_path / "date=2026-11-22/a.parquet", events),
        write(tmp_path / "items.parquet", items),
        query_id="u.id",
        item_id="item.id",
        timestamp="date",
    )

    def features(name: str, kind: str) -> FeatureSchema:
        own = {"name": "item.id", "kind": "id", "dim": 4}
        return FeatureSchema.model_validate({"item": [own, {"name": name, "kind": kind, "dim": 4}]})

    files = list_files(data)
    opened = open_sources(data, features("item.genres.name", "multi_valued"), files)
    assert opened.items is not None
    assert opened.items.schema.names == ["item.id", "item.genres.name", "extra"]
    with pytest.raises(UserError, match=r"'item.genres' not found; the log has: item.id, item.gen"):
        open_sources(data, features("item.genres", "multi_valued"), files)
    with pytest.raises(UserError, match=r"'extra' is map<.*expected a list of strings"):
        open_sources(data, features("extra", "multi_valued"), files)


def test_an_identity_tells_pieces_and_versions_of_a_file_apart(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"x": [1, 2]}, rows=1)
    piece = open_source(path, "events").pieces[0]
    assert piece.state[0] == Path(path).stat().st_size
    assert piece_identity(piece) == piece_identity(open_source(path, "events").pieces[0])
    write(tmp_path / "a.parquet", {"x": [3, 4]}, rows=1)
    with pytest.raises(UserError, match="was written again while it was read"):
        read_piece(piece)
    again = open_source(path, "events").pieces[0]
    assert again.state[0] == piece.state[0]
    assert piece_identity(piece) != piece_identity(again)
    others = [Piece(**{**vars(piece), **new}) for new in ({"groups": (0,)}, {"file": "b"})]
    assert len({piece_identity(p) for p in [piece, *others]}) == 3
    assert piece_identity(piece) == piece_identity(Piece(**{**vars(piece), "index": 9}))


def random_type(random: np.random.Generator, depth: int) -> pa.DataType:
    kind = random.integers(0, 3 if depth == 0 else 7)
    if kind == 0:
        return pa.int64()
    if kind == 1:
        return pa.large_string()
    if kind == 2:
        return pa.dictionary(pa.int32(), pa.string())
    if kind == 3:
        return pa.list_(random_type(random, depth - 1))
    if kind == 4:
        return pa.large_list(random_type(random, depth - 1))
    names = ("a", "b", "c.d")[: random.integers(1, 4)]
    return pa.struct([(name, random_type(random, depth - 1)) for name in names])


def random_value(random: np.random.Generator, kind: pa.DataType) -> Any:
    if random.random() < 0.2:
        return None
    if pa.types.is_struct(kind):
        return {field.name: random_value(random, field.type) for field in kind}
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return [random_value(random, kind.value_type) for _ in range(random.integers(0, 4))]
    number = int(random.integers(0, 5))
    return number if pa.types.is_integer(kind) else f"t{number}"


def leaves(kind: pa.DataType, name: str = "x") -> dict[str, Callable[[Any], Any]]:
    """Returns, for each leaf column of a type, the function that extracts it from a value."""
    inner = kind.value_type if pa.types.is_list(kind) or pa.types.is_large_list(kind) else kind
    if not pa.types.is_struct(inner):
        return {name: lambda value: value}

    def below(field: str, follow: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def one(value: Any) -> Any:
            return None if value is None else follow(value[field])

        if inner is kind:
            return one
        return lambda values: None if values is None else [one(value) for value in values]

    return {
        leaf: below(field.name, follow)
        for field in inner
        for leaf, follow in leaves(field.type, f"{name}.{field.name}").items()
    }


@pytest.mark.parametrize("seed", range(40))
def test_any_nesting_is_read_like_a_walk_through_its_rows(tmp_path: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    kind = random_type(random, 3)
    rows = [random_value(random, kind) for _ in range(11)]
    table = pa.table({"n": range(11), "x": pa.array(rows, kind)})
    path = write(tmp_path / "a.parquet", table, rows=int(random.integers(2, 12)))
    expected = {name: [walk(row) for row in rows] for name, walk in leaves(kind).items()}
    assert open_source(path, "events").schema.names == ["n", *expected]
    assert read(path, *expected) == expected
    some = list(random.permutation(list(expected)))[:2]
    assert read(path, *some) == {name: expected[name] for name in some}
