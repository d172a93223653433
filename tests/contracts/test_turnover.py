"""A value on another one's row inherits neither its vector nor its optimizer's state."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from feature_store.core.columns import Jagged
from feature_store.encoding.encoder import OOV_ROW
from pipelines.prepared.reader import Prepared
from recsys.checkpoint.doctor import diagnose
from recsys.checkpoint.manifest import read_checkpoint
from recsys.checkpoint.table_rows import unknown_rows
from recsys.checkpoint.training_manifest import CHECKPOINT
from recsys.config.config import Config
from recsys.stages.train import train
from serving.nightly.champion import AsItWas
from tests.support.nightly.turnover import prepare_day, turnover_config, write_turnover_days
from tests.support.ranks import tensors_of

TABLE = "model.model.tables.embedding_bags.item/item_id.weight"
MOMENTUM = "optimizer.model.tables.embedding_bags.item/item_id.weight.momentum1"


def trained(directory: Path, tracking_uri: str, **training: Any) -> Config:
    config = turnover_config(directory, tracking={"uri": tracking_uri}, training=training)
    train(config, console=Console(quiet=True))
    return config


@pytest.fixture(scope="module")
def renewed(tmp_path_factory: pytest.TempPathFactory, tracking_uri: str) -> Any:
    """Trains as of a sixth day, and goes on as of a ninth; and trains that from scratch, too."""
    directory = tmp_path_factory.mktemp("renewed")
    write_turnover_days(directory, 1, 9)
    prepare_day(directory, 6)
    config = trained(directory, tracking_uri, batch_size=64, epochs=1)
    _, manifest = read_checkpoint(config.train_dir / CHECKPOINT)
    before, old = tensors_of(config.train_dir / CHECKPOINT), Prepared(config.prepared_dir)
    tokens = old.item_encoder.vocabularies["item_id"].tokens.to_pylist()
    learnt = old.has_learnt_id
    prepare_day(directory, 9)
    verdict = diagnose(config).verdict
    trained(directory, tracking_uri, batch_size=64, epochs=1, start="previous")
    after = tensors_of(config.train_dir / CHECKPOINT)
    trained(directory, tracking_uri, batch_size=64, epochs=1)
    scratch = tensors_of(config.train_dir / CHECKPOINT)
    return Prepared(config.prepared_dir), manifest, tokens, learnt, before, after, scratch, verdict


def test_a_new_value_starts_fresh_on_a_row_that_was_another_ones(renewed: Any) -> None:
    prepared, manifest, tokens, _, before, after, scratch, verdict = renewed
    assert verdict == "resizable"
    vocabulary = prepared.item_encoder.vocabularies["item_id"]
    rows = unknown_rows(manifest.tables, prepared)["item.item_id"]
    taken = [row for row in rows.tolist() if vocabulary.tokens[row].as_py() is not None]
    # The last days are held out, so nothing has been learnt of their items yet.
    row = next(row for row in taken if vocabulary.tokens[row].as_py() in ("hot8", "hot9"))
    assert tokens[row] != vocabulary.tokens[row].as_py()
    assert before[MOMENTUM].view(-1)[row] > 0
    assert after[MOMENTUM].view(-1)[row] == 0
    assert not torch.equal(after[TABLE][row], before[TABLE][row])
    assert torch.equal(after[TABLE][row], scratch[TABLE][row])


def test_a_value_that_stays_goes_on_from_where_it_was(renewed: Any) -> None:
    prepared, manifest, tokens, _, before, after, _, _ = renewed
    unknown = unknown_rows(manifest.tables, prepared)["item.item_id"]
    stays = np.setdiff1d(np.arange(len(tokens)), unknown)
    vocabulary = prepared.item_encoder.vocabularies["item_id"].tokens.to_pylist()
    assert [vocabulary[row] for row in stays] == [tokens[row] for row in stays]
    gained = after[MOMENTUM].view(-1)[stays] - before[MOMENTUM].view(-1)[stays]
    assert (gained >= 0).all()


def test_an_earlier_champion_knows_nothing_of_values_on_rows_that_were_others(renewed: Any) -> None:
    prepared, manifest, _, learnt, *_ = renewed
    seen = AsItWas(prepared.directory, manifest, learnt)
    for name, encoder, columns in (
        ("item_id", prepared.item_encoder, seen.item_columns),
        ("device", prepared.context_encoder, seen.context_of(np.arange(10), "test")),
    ):
        column, vocabulary = columns[name], encoder.vocabularies[name]
        assert isinstance(column, Jagged)
        later = vocabulary.first_row + np.flatnonzero(vocabulary.is_later(0))
        assert not np.isin(column.values, later).any()
    context = prepared.context_of(np.arange(prepared.num_queries), "test")["device"]
    shown = seen.context_of(np.arange(prepared.num_queries), "test")["device"]
    assert (shown.values == OOV_ROW).sum() > (context.values == OOV_ROW).sum()
