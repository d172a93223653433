"""The fuse stage on a log of pages, and how the evaluation ranks by it."""

import json

import numpy as np
import pytest

from feature_store.core.errors import UserError
from recsys.channels.kinds import CHANNELS
from recsys.evaluation.results import MODEL, TOWERS, TOWERS_CURVE
from recsys.fusion.fused import Fused
from recsys.stages.evaluate import evaluate
from recsys.stages.fuse import FusionManifest, fuse
from recsys.stages.prepare import prepare
from recsys.stages.train import train
from tests.support.fused.pages_log import PAGES, pages_config


@pytest.fixture(scope="module")
def config(tmp_path_factory, tracking_uri):
    config = pages_config(tmp_path_factory.mktemp("pages"), tracking={"uri": tracking_uri})
    prepare(config)
    train(config)
    return config


def with_ranking(config, **keys):
    return config.model_copy(update={"ranking": config.ranking.model_copy(update=keys)})


def test_every_channel_is_fitted_and_a_second_call_has_nothing_to_do(config, capsys):
    manifest = fuse(config)
    assert isinstance(manifest, FusionManifest)
    assert manifest.left_out == {}
    fused = Fused.read(config.fusion_dir)
    assert list(fused.info.channels) == list(CHANNELS)
    assert fused.lists.keys() == {channel.lists for channel in CHANNELS.values()}
    assert fused.info.weights == manifest.weights
    assert len(fused.dial) == PAGES
    assert not config.fusion_dir.with_name("fusion.work").exists()
    before = config.fusion_dir.stat().st_ino
    assert fuse(config) == manifest
    assert config.fusion_dir.stat().st_ino == before
    assert "is up to date" in capsys.readouterr().out


def test_other_settings_are_fitted_anew_and_absent_channels_say_why(config, capsys):
    few = with_ranking(config, channels=("co_occurrence",), tail_weight=0.0)
    manifest = fuse(few)
    assert list(Fused.read(config.fusion_dir).info.channels) == ["co_occurrence"]
    assert "fuse: weights: " in capsys.readouterr().out
    assert set(manifest.weights.channels) <= {"co_occurrence"}


def test_the_evaluation_ranks_by_the_fused_score_and_by_each_part(config):
    result = evaluate(config)
    fused = Fused.read(config.fusion_dir)
    assert list(result.methods)[: 2 + len(CHANNELS)] == [MODEL, TOWERS, *CHANNELS]
    assert result.weights == fused.info.weights.by_part(list(CHANNELS))
    assert set(result.trade_off) == {"validation", "test", TOWERS_CURVE}
    page = (config.evaluation_dir / "report.html").read_text(encoding="utf-8")
    assert "Parts of the score" in page
    again = json.loads((config.evaluation_dir / "metrics.json").read_text(encoding="utf-8"))
    assert again["weights"] == result.weights


def test_without_channels_the_towers_rank_alone(config):
    alone = evaluate(with_ranking(config, channels=()))
    assert TOWERS not in alone.methods
    assert alone.weights == {}
    assert alone.overall == evaluate(config).methods[TOWERS].overall


def test_a_channel_is_named_once(config):
    with pytest.raises(ValueError, match="lists the same one twice"):
        type(config.ranking)(channels=("links", "links"))


def test_a_directory_of_somebody_else_is_left_alone(config, tmp_path):
    other = config.model_copy(update={"output": str(tmp_path)})
    (tmp_path / "fusion").mkdir()
    (tmp_path / "fusion" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="holds something else"):
        fuse(other)
    assert np.array_equal(list((tmp_path / "fusion").iterdir()), [tmp_path / "fusion/notes.txt"])
