"""Item vectors of the exported tower are those of the trained model."""

import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store.core.columns import Dense, read_columns, write_columns
from feature_store.core.errors import UserError
from feature_store.encoding.vocabulary import Vocabulary
from serving.batch import item_vectors
from serving.batch.item_vectors import (
    item_vector_batches,
    item_vector_parts,
    map_item_vectors,
    vectors_of,
    write_item_vectors,
)
from tests.support.tiny_bundle import ITEMS, NEVER_TRAINED, export_untrained, write_prepared

GONE = (0, 7, 40)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Exports a bundle of a catalogue that some items have left."""
    config = write_prepared(tmp_path_factory.mktemp("exported"))
    path = config.prepared_dir / "vocabulary" / "item_id.parquet"
    tokens = Vocabulary.load(path).tokens.to_pylist()
    left = [None if i in GONE else token for i, token in enumerate(tokens)]
    Vocabulary(pa.array(left), pa.array([int(i not in GONE) for i in range(ITEMS)]), 0).save(path)
    with pytest.MonkeyPatch.context() as patch:
        export_untrained(config, patch)
    return config.bundle_dir


@pytest.fixture
def in_process(monkeypatch):
    """Runs workers in this process, for actors take seconds to start."""

    def run_parts(make, arguments, parts, actors):
        return map(make(*arguments), range(parts))

    monkeypatch.setattr(item_vectors, "run_parts", run_parts)


@pytest.fixture
def unfinished(exported, tmp_path):
    """Copies the bundle without its vectors."""
    without = shutil.ignore_patterns("item_vectors", "manifest.json")
    return shutil.copytree(exported, tmp_path / "bundle", ignore=without)


@pytest.mark.parametrize(
    "engine", ["in_process", pytest.param("ray_session", marks=pytest.mark.slow)]
)
def test_vectors_are_those_of_the_export(exported, unfinished, engine, request):
    request.getfixturevalue(engine)
    write_item_vectors(unfinished, actors=2, part_rows=17)
    expected = pq.read_table(exported / "item_vectors")
    found = pq.read_table(unfinished / "item_vectors")
    assert found.schema == expected.schema
    assert found["item_id"].equals(expected["item_id"])
    never_trained = {f"i{item}" for item in range(NEVER_TRAINED, ITEMS)}
    assert never_trained <= set(found["item_id"].to_pylist())
    vectors = [np.array(table["vector"].to_pylist()) for table in (found, expected)]
    np.testing.assert_allclose(*vectors, atol=1e-6)
    rows = [pq.read_metadata(part).num_rows for part in item_vector_parts(unfinished)]
    assert rows == [17, 17, 17, ITEMS - len(GONE) - 3 * 17]
    assert [part.name for part in item_vector_parts(unfinished)] == [
        f"part-0000{part}.parquet" for part in range(4)
    ]


def test_vectors_that_are_not_finite_are_refused(unfinished, in_process):
    path = unfinished / "items" / "features.arrow"
    columns = read_columns(path)
    year = columns["year"]
    assert isinstance(year, Dense)
    values = year.values.copy()
    values[np.flatnonzero(year.present)[:2]] = np.nan
    write_columns(path, {**columns, "year": Dense(values, year.present)})
    with pytest.raises(UserError, match=r"^2 of 57 item vectors are not finite; .*\.$"):
        write_item_vectors(unfinished)


def test_the_mapped_array_holds_all_vectors_in_order(exported, tmp_path):
    path = tmp_path / "vectors.npy"
    mapped = map_item_vectors(exported, path)
    assert isinstance(mapped, np.memmap)
    assert not mapped.flags.writeable
    expected = pq.read_table(exported / "item_vectors")["vector"].to_pylist()
    np.testing.assert_array_equal(mapped, np.array(expected, np.float32))
    np.testing.assert_array_equal(np.load(path), mapped)


def test_batches_are_of_the_asked_size(exported):
    batches = list(item_vector_batches(exported, 25))
    assert [len(batch) for batch in batches] == [25, 25, ITEMS - len(GONE) - 50]
    ids = [item for batch in batches for item in batch.column("item_id").to_pylist()]
    assert ids == [f"i{item}" for item in range(ITEMS) if item not in GONE]
    norms = [np.linalg.norm(vectors_of(batch), axis=1) for batch in batches]
    np.testing.assert_allclose(np.concatenate(norms), 1, atol=1e-6)
