"""Every method trains alike on one rank and on two, and leaves a model that can be loaded."""

import json

import pytest
import torch

from recsys.checkpoint.load import load_model
from recsys.config.config import Config
from recsys.config.load import parse_config
from recsys.stages.train import train
from tests.contracts.test_training import assert_same_lines, losses, short
from tests.support.ranks import saved_tensors, train_on_ranks

METHODS = {
    "none": {"method": "none"},
    "feature_dropout": {"method": "feature_dropout", "rate": 0.3},
    "spread_out": {"method": "spread_out", "batch_size": 50},
    "rfm": {"method": "rfm", "items": "training", "projection": 8},
    "neighbours": {"method": "neighbours", "id_dropout": 0.5},
    "cfm": {
        "method": "cfm",
        "items": "frequency",
        "views": "independent",
        "id_feature": "hidden",
        "group_size": 2,
        "projection": 8,
        "shared_layers": "inputs",
    },
}


def with_ssl(config: Config, ssl: dict) -> Config:
    return parse_config({**config.model_dump(mode="json"), "ssl": ssl})


@pytest.mark.parametrize(
    "method",
    [name if name == "cfm" else pytest.param(name, marks=pytest.mark.slow) for name in METHODS],
)
def test_two_ranks_equal_one(planted, tmp_path, method):
    config = short(with_ssl(planted, METHODS[method]), epochs=1)
    for ranks in (1, 2):
        train_on_ranks(config, tmp_path / str(ranks), ranks)
    one, two = (saved_tensors(tmp_path / str(ranks)) for ranks in (1, 2))
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-3, atol=1e-4, msg=name)
    assert_same_lines(losses(tmp_path / "2"), losses(tmp_path / "1"))


def test_a_model_is_loaded_without_the_parts_that_are_not_served(planted, tmp_path):
    config = short(with_ssl(planted, METHODS["cfm"]), epochs=1)
    config = config.model_copy(update={"output": str(tmp_path / "out")})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "prepared").symlink_to(planted.prepared_dir)
    train(config)
    model, manifest = load_model(config)
    lines = (config.train_dir / "metrics.jsonl").read_text().splitlines()
    validated = [line for line in map(json.loads, lines) if "validation.recall@10" in line]
    assert validated[-1]["step"] == manifest.steps
    assert 1 < validated[-1]["diagnostics.effective_rank"] <= model.dim
    assert sum(v for k, v in validated[-1].items() if ".seed." in k) == manifest.steps
    assert "Masks" in (config.train_dir / "diagnostics" / "diagnostics.html").read_text()
