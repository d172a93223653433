"""Values of a log enter and leave vocabularies by their events, day by day."""

import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from feature_store.core.columns import Jagged
from feature_store.encoding.encoder import OOV_ROW
from feature_store.encoding.vocabulary import Vocabulary
from pipelines.prepared.reader import Prepared
from tests.support.kills import dies_before
from tests.support.nightly.turnover import (
    IDLE_DAYS,
    MIN_COUNT,
    prepare_day,
    turnover_config,
    write_turnover_days,
)
from tests.support.prepare_logs import files_below


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepares a sixth day and then a ninth, killed in its middle."""
    directory = tmp_path_factory.mktemp("turnover")
    write_turnover_days(directory, 1, 9)
    prepare_day(directory, 6)
    shutil.copytree(directory / "out" / "prepared", directory / "sixth")
    shutil.copytree(directory / "out", directory / "killed" / "out")
    (directory / "killed" / "events").symlink_to(directory / "events")
    prepare_day(directory, 9)
    return directory


def vocabularies(prepared: Prepared) -> tuple[Vocabulary, Vocabulary]:
    items, context = prepared.item_encoder, prepared.context_encoder
    return items.vocabularies["item_id"], context.vocabularies["device"]


def test_an_id_has_a_row_from_its_second_event_on(days: Path) -> None:
    prepared = Prepared(days / "sixth")
    ids, _ = vocabularies(prepared)
    items = prepared.item_encoder.ids.tokens.to_pylist()
    column = prepared.item_columns["item_id"]
    assert isinstance(column, Jagged)
    rare = set(items) - set(ids.tokens.to_pylist())
    assert rare
    assert {item for item, n in zip(items, column.lengths, strict=True) if not n} == rare
    held = ids.counts.to_numpy()
    assert held.min() >= MIN_COUNT
    assert prepared.item_encoder.num_embeddings(prepared.features.item[0]) == len(ids) < len(items)


def test_a_value_that_left_is_out_of_vocabulary_and_its_row_another_ones(days: Path) -> None:
    before, now = Prepared(days / "sixth"), Prepared(days / "out" / "prepared")
    for old, new in zip(vocabularies(before), vocabularies(now), strict=True):
        gone = [t for t in old.tokens.to_pylist() if t not in new.tokens.to_pylist()]
        own = [t for t in gone if t.startswith(("hot", "only"))]
        assert own == [f"{own[0][:-1]}{day}" for day in range(7 - IDLE_DAYS, 7)]
        stays = pa.array([token for token in old.tokens.to_pylist() if token not in gone])
        assert new.rows(stays).tolist() == old.rows(stays).tolist()
        taken = [token for token in new.tokens.to_pylist()[: len(old)] if token is not None]
        assert {"hot9", "only9"} & set(taken)
        assert new.generation == 1
    devices = pa.table({"device": ["only4", "only9", "d0"]})
    encoded = now.context_encoder.encode(devices)["device"]
    assert isinstance(encoded, Jagged)
    assert (encoded.values == OOV_ROW).tolist() == [True, False, False]
    items = now.item_encoder.ids.tokens.to_pylist()
    column = now.item_columns["item_id"]
    assert isinstance(column, Jagged)
    assert column.lengths[items.index("hot4")] == 0  # It is still in the catalogue.
    assert column.lengths[items.index("hot9")] == 1


@pytest.mark.slow
@pytest.mark.parametrize("change", [12, 60])
def test_a_kill_in_the_middle_is_finished_by_the_next_call(
    days: Path, tmp_path: Path, change: int
) -> None:
    killed = Path(shutil.copytree(days / "killed", tmp_path / "killed", symlinks=True))
    assert dies_before(change, prepare_day, killed, 9)
    prepare_day(killed, 9)
    expected = files_below(days / "out" / "prepared" / "vocabulary")
    assert files_below(killed / "out" / "prepared" / "vocabulary") == expected
    now = files_below(killed / "out" / "prepared" / "items")
    assert now == files_below(days / "out" / "prepared" / "items")
    assert turnover_config(killed).prepared_dir.is_dir()
