"""A bundle's item vectors as files that vector databases import.

`write_vectors` makes `manifest.json` and `vectors/`, whose files are to be uploaded or loaded.
Vectors are L2-normalised: the metric is the inner product. (Programs that read Parquet, such as
BigQuery, DuckDB or LanceDB, take the bundle's own `item_vectors/`.)

vertex      JSON lines for Google's Vector Search, `{"id": ..., "embedding": [...]}`:
                gcloud storage cp DIR/vectors/* gs://BUCKET/items/
                gcloud ai indexes create --display-name=items --metadata-file=index.json
            where index.json has "contentsDeltaUri": "gs://BUCKET/items" and the dimensions
            https://cloud.google.com/vertex-ai/docs/vector-search/setup/format-structure
pinecone    Parquet with id and values, in a directory for the namespace `items`:
                aws s3 cp --recursive DIR/vectors s3://BUCKET/import
                index.start_import(uri="s3://BUCKET/import")                         (Python)
            https://docs.pinecone.io/guides/index-data/import-data
milvus      Parquet with id (VARCHAR, the primary key) and vector (FLOAT_VECTOR):
                mc cp DIR/vectors/* minio/a-bucket/items/
                bulk_import(url, "items", files=[["items/part-00000.parquet"], ...]) (Python)
            https://milvus.io/docs/import-data.md
opensearch  bulk requests of about 10 MB, for an index whose field `vector` is a knn_vector:
                find DIR/vectors -type f -exec curl "$URL/items/_bulk" --data-binary @{}
                    -H 'Content-Type: application/x-ndjson' ';'                      (one line)
            https://docs.opensearch.org/latest/api-reference/document-apis/bulk/
pgvector    CSV for PostgreSQL:
                psql -c 'CREATE TABLE items (id text PRIMARY KEY, embedding vector(DIM))'
                cat DIR/vectors/* | psql -c 'COPY items FROM STDIN WITH (FORMAT csv)'
            https://github.com/pgvector/pgvector#loading
npy         vectors.npy, [items, dim] float32, and ids.txt, whose line i is the id of row i:
                np.load("DIR/vectors/vectors.npy", mmap_mode="r")
"""

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_store.core.errors import UserError
from feature_store.core.files import directory_written_atomically, require_replaceable
from feature_store.core.locks import reading
from feature_store.core.manifests import write_manifest, written_as
from feature_store.core.settings import Frozen
from serving.batch.item_vectors import item_vector_batches, map_item_vectors
from serving.bundle.manifest import verify

Format = Literal["vertex", "pinecone", "milvus", "opensearch", "pgvector", "npy"]

# Numbers of a batch: about 10 MB as text, which is a good size of a bulk request.
_BATCH_NUMBERS = 2**20
# Batches of a file; Vector Search takes up to 5,000 files, and Milvus 1,024 in a request.
_FILE_BATCHES = 64


class VectorsManifest(Frozen):
    """The record of the files.

    Attributes:
        format: One of the formats that the module describes.
        fingerprint: Fingerprint of the bundle: the version of the model.
        items: Number of vectors.
        dim: Length of a vector.
        files: Paths below the directory.
    """

    format: Format
    fingerprint: str
    items: int
    dim: int
    files: tuple[str, ...]


def write_vectors(bundle: Path, output: Path, format: Format) -> VectorsManifest:
    """Writes the item vectors of a bundle for a vector database, a batch at a time.

    Args:
        bundle: Directory of the bundle.
        output: Directory to write; one that an earlier call wrote is replaced.
        format: One of the formats that the module describes.

    Raises:
        UserError: It is not a bundle, there is no such format, the output holds something else, or
            an id does not fit the format.
    """
    if format not in _WRITERS:
        raise UserError(f"there is no format {format!r}; give one of: {', '.join(_WRITERS)}.")
    with reading(bundle):
        exported = verify(bundle)
        is_own = written_as(VectorsManifest)
        require_replaceable(output, is_own, [bundle])
        with directory_written_atomically(output, is_own) as directory:
            target = directory / "vectors"
            target.mkdir()
            _WRITERS[format](bundle, target, max(1, _BATCH_NUMBERS // exported.dim))
            files = sorted(p.relative_to(directory).as_posix() for p in target.rglob("*.*"))
            manifest = VectorsManifest(
                format=format,
                fingerprint=exported.fingerprint,
                items=exported.items,
                dim=exported.dim,
                files=tuple(files),
            )
            write_manifest(directory, manifest)
    return manifest


def _files(bundle: Path, rows: int, batches: int) -> Iterator[tuple[str, Iterator[pa.RecordBatch]]]:
    """Yields the name and the batches of each file, to be written before the next one."""
    numbered = enumerate(item_vector_batches(bundle, rows))
    for number, group in groupby(numbered, lambda entry: entry[0] // batches):
        yield f"part-{number:05d}", (batch for _, batch in group)


def _numbers(batch: pa.RecordBatch) -> list[str]:
    """Formats each vector as `0.1,-0.2`, with the fewest digits that give the same float32."""
    vectors = batch.column("vector")
    texts = pc.cast(vectors.flatten(), pa.string())
    offsets = pa.array(np.arange(len(vectors) + 1) * vectors.type.list_size, pa.int32())
    joined: list[str] = pc.binary_join(pa.ListArray.from_arrays(offsets, texts), ",").to_pylist()
    return joined


Lines = Callable[[Sequence[str], Sequence[str]], Iterator[str]]


def _vertex_lines(ids: Sequence[str], vectors: Sequence[str]) -> Iterator[str]:
    for item, vector in zip(ids, vectors, strict=True):
        yield f'{{"id": {json.dumps(item)}, "embedding": [{vector}]}}\n'


def _opensearch_lines(ids: Sequence[str], vectors: Sequence[str]) -> Iterator[str]:
    for item, vector in zip(ids, vectors, strict=True):
        yield f'{{"index": {{"_id": {json.dumps(item)}}}}}\n{{"vector": [{vector}]}}\n'


def _pgvector_lines(ids: Sequence[str], vectors: Sequence[str]) -> Iterator[str]:
    for item, vector in zip(ids, vectors, strict=True):
        quoted = item.replace('"', '""')
        yield f'"{quoted}","[{vector}]"\n'


def _text(suffix: str, lines: Lines, batches: int = _FILE_BATCHES) -> Callable[..., None]:
    def write(bundle: Path, target: Path, rows: int) -> None:
        for name, group in _files(bundle, rows, batches):
            with (target / f"{name}{suffix}").open("w", encoding="utf-8", newline="") as file:
                for batch in group:
                    file.writelines(lines(batch.column("item_id").to_pylist(), _numbers(batch)))

    return write


def _parquet(vector: str, folder: str = "") -> Callable[..., None]:
    schema = pa.schema({"id": pa.string(), vector: pa.list_(pa.float32())})

    def write(bundle: Path, target: Path, rows: int) -> None:
        (target / folder).mkdir(exist_ok=True)
        for name, group in _files(bundle, rows, _FILE_BATCHES):
            path = target / folder / f"{name}.parquet"
            # Numbers that are all different make no dictionary.
            with pq.ParquetWriter(path, schema, use_dictionary=False) as writer:
                for batch in group:
                    columns = [batch.column("item_id"), batch.column("vector")]
                    arrays = [
                        column.cast(type_)
                        for column, type_ in zip(columns, schema.types, strict=True)
                    ]
                    writer.write_batch(pa.record_batch(arrays, schema))

    return write


def _npy(bundle: Path, target: Path, rows: int) -> None:
    map_item_vectors(bundle, target / "vectors.npy")
    with (target / "ids.txt").open("w", encoding="utf-8", newline="") as file:
        for batch in item_vector_batches(bundle, rows):
            for item in batch.column("item_id").to_pylist():
                if "\n" in item:
                    raise UserError(
                        f"the item id {item!r} has a line break, which ids.txt cannot hold; choose "
                        "another format than npy."
                    )
                file.write(f"{item}\n")


# Writers take the bundle, the directory to fill, and the rows of a batch.
_WRITERS: dict[str, Callable[[Path, Path, int], None]] = {
    "vertex": _text(".json", _vertex_lines),
    "pinecone": _parquet("values", "items"),
    "milvus": _parquet("vector"),
    "opensearch": _text(".ndjson", _opensearch_lines, batches=1),
    "pgvector": _text(".csv", _pgvector_lines),
    "npy": _npy,
}
