"""The files for vector databases, read back by other readers than the writers."""

import csv
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store.core.errors import UserError
from feature_store.core.files import write_parquet
from serving.batch import vector_files
from serving.batch.vector_files import VectorsManifest, write_vectors
from serving.bundle.manifest import read_manifest, seal

DIM = 3
IDS = ['say "i"', "a,b", "über\u2028", "back\\slash", "'", "", " x ", *map(str, range(93))]
FORMATS = ("vertex", "pinecone", "milvus", "opensearch", "pgvector", "npy")


def make_bundle(directory, exported, ids):
    """Makes a sealed directory of vectors alone, with numbers that are hard to write as text."""
    vectors = np.random.default_rng(0).normal(size=(len(ids), DIM)).astype(np.float32)
    vectors[0] = 1e-10, -3.4e38, 1 / 3
    vectors[1] = -0.0, 1e21, 16_777_217
    for part, start in enumerate(range(0, len(ids), 70)):
        rows = slice(start, start + 70)
        column = pa.FixedSizeListArray.from_arrays(vectors[rows].reshape(-1), DIM)
        table = pa.table({"item_id": pa.array(ids[rows], pa.string()), "vector": column})
        write_parquet(directory / "item_vectors" / f"part-{part:05d}.parquet", table)
    seal(directory, read_manifest(exported).model_copy(update={"items": len(ids), "dim": DIM}))
    return vectors


@pytest.fixture
def bundle(tmp_path, exported):
    return tmp_path / "bundle", make_bundle(tmp_path / "bundle", exported, IDS)


def read_back(output, manifest):
    """Reads ids and vectors, in order."""
    files = [output / name for name in manifest.files]
    if manifest.format == "npy":
        ids, vectors = files
        return ids.read_text(encoding="utf-8").split("\n")[:-1], np.load(vectors)
    records = [record for file in files for record in _READERS[manifest.format](file)]
    return [item for item, _ in records], np.array([v for _, v in records], np.float32)


def read_vertex(file):
    records = [json.loads(line) for line in file.read_bytes().splitlines()]
    assert all(set(record) == {"id", "embedding"} for record in records)
    return [(record["id"], record["embedding"]) for record in records]


def read_opensearch(file):
    lines = [json.loads(line) for line in file.read_bytes().splitlines()]
    pairs = zip(lines[::2], lines[1::2], strict=True)
    return [(action["index"]["_id"], document["vector"]) for action, document in pairs]


def read_pgvector(file):
    with file.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.reader(stream, strict=True))
    return [(item, json.loads(vector)) for item, vector in rows]


def read_parquet(name):
    def read(file):
        table = pq.ParquetFile(file).read()
        assert table.schema.equals(pa.schema({"id": pa.string(), name: pa.list_(pa.float32())}))
        return list(zip(table["id"].to_pylist(), table[name].to_pylist(), strict=True))

    return read


_READERS = {
    "vertex": read_vertex,
    "pinecone": read_parquet("values"),
    "milvus": read_parquet("vector"),
    "opensearch": read_opensearch,
    "pgvector": read_pgvector,
}


@pytest.mark.parametrize("format_", FORMATS)
def test_every_number_and_id_comes_back(bundle, tmp_path, format_):
    directory, vectors = bundle
    manifest = write_vectors(directory, tmp_path / "out", format_)
    ids, found = read_back(tmp_path / "out", manifest)
    assert ids == IDS
    np.testing.assert_array_equal(found, vectors)
    assert found.dtype == np.float32
    assert (manifest.format, manifest.items, manifest.dim) == (format_, len(IDS), DIM)
    assert manifest.fingerprint == read_manifest(directory).fingerprint
    written = VectorsManifest.model_validate_json((tmp_path / "out/manifest.json").read_text())
    assert written == manifest
    present = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.*")}
    assert present == {*manifest.files, "manifest.json"}


@pytest.mark.parametrize(
    ("format_", "names"),
    [
        ("vertex", ["vectors/part-00000.json", "vectors/part-00001.json"]),
        ("pinecone", ["vectors/items/part-00000.parquet", "vectors/items/part-00001.parquet"]),
        ("opensearch", [f"vectors/part-{part:05d}.ndjson" for part in range(100)]),
    ],
)
def test_files_are_of_bounded_size(bundle, tmp_path, monkeypatch, format_, names):
    directory, vectors = bundle
    monkeypatch.setattr(vector_files, "_BATCH_NUMBERS", 1)  # A batch is one item.
    manifest = write_vectors(directory, tmp_path / "out", format_)
    assert list(manifest.files) == names
    ids, found = read_back(tmp_path / "out", manifest)
    assert ids == IDS
    np.testing.assert_array_equal(found, vectors)


def test_an_earlier_output_is_replaced_and_nothing_else(bundle, tmp_path):
    directory, _ = bundle
    write_vectors(directory, tmp_path / "out", "npy")
    assert write_vectors(directory, tmp_path / "out", "pgvector").format == "pgvector"
    assert not (tmp_path / "out" / "vectors" / "ids.txt").exists()
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("keep")
    with pytest.raises(UserError, match=r"letters holds something else, such as dear.txt; choose"):
        write_vectors(directory, tmp_path / "letters", "npy")
    with pytest.raises(UserError, match=r"dear.txt is a file, expected a directory"):
        write_vectors(directory, tmp_path / "letters" / "dear.txt", "npy")


def test_what_cannot_be_written_is_told_and_leaves_nothing(tmp_path, exported):
    directory = tmp_path / "bundle"
    make_bundle(directory, exported, ["a\nb", "c"])
    with pytest.raises(UserError, match=r"'a\\nb' has a line break"):
        write_vectors(directory, tmp_path / "out", "npy")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle"]
    found = write_vectors(directory, tmp_path / "out", "pgvector")
    assert read_back(tmp_path / "out", found)[0] == ["a\nb", "c"]
    with pytest.raises(UserError, match=r"there is no format 'csv'; give one of: vertex, "):
        write_vectors(directory, tmp_path / "out", "csv")
    with pytest.raises(UserError, match="is not a bundle"):
        write_vectors(tmp_path, tmp_path / "out", "npy")
