"""A training whose views show neighbours: what it fits, and what `fuse` need not fit again."""

from concurrent.futures import ThreadPoolExecutor
from functools import wraps

import pytest
from rich.console import Console

from feature_store.core.errors import UserError
from pipelines.prepared.reader import Prepared
from recsys.channels import fit
from recsys.checkpoint.training_manifest import work_dir_of
from recsys.config.ssl.contrastive import CorrelatedMasking
from recsys.stages.channel_lists import lists_locked
from recsys.stages.fuse import fuse
from recsys.stages.item_neighbours import fit_neighbours
from recsys.stages.prepare import prepare
from recsys.stages.train import train
from tests.support.fused.pages_log import pages_config


@pytest.fixture(scope="module")
def config(tmp_path_factory, tracking_uri):
    config = pages_config(
        tmp_path_factory.mktemp("pages"),
        ssl={"method": "neighbours"},
        tracking={"uri": tracking_uri},
    )
    prepare(config)
    train(config)
    return config


def test_fuse_takes_the_lists_that_train_has_fitted(config, monkeypatch):
    fitted = []
    work_dir = config.fusion_dir.with_name("fusion.work")
    assert {path.name for path in work_dir.glob("*/*")} == {"co_occurrence", "content"}
    fit_range = fit._fit_range

    @wraps(fit_range)
    def noted(task):
        fitted.append(task.part)
        return fit_range(task)

    monkeypatch.setattr(fit, "_fit_range", noted)
    manifest = fuse(config)
    assert manifest.left_out == {}
    assert fitted
    assert not [part for part in fitted if "/co_occurrence/" in part or "/content/" in part]
    assert not work_dir.exists()


def test_an_interrupted_training_keeps_its_neighbours_and_without_channels_no_list_is_left(
    config, tmp_path
):
    alone = config.model_copy(
        update={"ranking": config.ranking.model_copy(update={"channels": ()})}
    )
    prepared = Prepared(config.prepared_dir)
    first = fit_neighbours(alone, prepared, tmp_path, Console())
    assert first == tmp_path / "neighbours"
    assert not alone.fusion_dir.with_name("fusion.work").exists()
    before = first.stat().st_ino
    assert fit_neighbours(alone, prepared, tmp_path, Console()) == first
    assert first.stat().st_ino == before
    assert not work_dir_of(config).exists()  # Nothing of the finished one is left.


def test_views_of_other_methods_need_no_neighbours(config, tmp_path):
    cfm = config.model_copy(update={"ssl": CorrelatedMasking()})
    assert fit_neighbours(cfm, Prepared(config.prepared_dir), tmp_path, Console()) is None
    assert not list(tmp_path.iterdir())


def test_lists_of_other_settings_are_removed_and_nobody_else_writes_meanwhile(config, tmp_path):
    prepared = Prepared(config.prepared_dir)
    own = config.model_copy(update={"output": str(tmp_path / "out")})
    shorter = own.model_copy(
        update={"ranking": config.ranking.model_copy(update={"neighbours": 3})}
    )
    kept = []
    for each in (own, shorter):
        fit_neighbours(each, prepared, tmp_path / str(each.ranking.neighbours), Console())
        kept.append(list(own.fusion_dir.with_name("fusion.work").iterdir()))
    assert [len(identities) for identities in kept] == [1, 1]
    assert kept[0] != kept[1]
    with ThreadPoolExecutor(1) as others, lists_locked(own):
        waiting = others.submit(fit_neighbours, own, prepared, tmp_path / "other", Console())
        with pytest.raises(UserError, match=r"fusion\.work"):
            waiting.result()
