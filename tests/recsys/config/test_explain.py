"""Explanations of keys: complete, true, and the same as the page in the documentation."""

from pathlib import Path
from typing import Annotated

import pytest
from pydantic import TypeAdapter
from typer.testing import CliRunner

from feature_store.core.errors import UserError
from recsys.cli import app
from recsys.config.explain import example_value, explain, page
from recsys.config.keys import all_keys
from recsys.config.reasons import EXAMPLES, REASONS
from recsys.config.yaml_reader import parse_yaml

PAGE = Path(__file__).parents[3] / "docs" / "configuration.md"
LIST = Path(__file__).with_name("keys.txt")


def test_every_key_is_explained() -> None:
    keys = all_keys()
    assert sorted(keys) == LIST.read_text(encoding="utf-8").split()
    for path, key in keys.items():
        assert all(variant.description for variant in key.variants), path
        assert path in explain(path)
    assert REASONS.keys() <= keys.keys()
    assert EXAMPLES.keys() <= keys.keys()


def test_the_page_is_up_to_date() -> None:
    is_same = PAGE.read_text(encoding="utf-8") == page()
    assert is_same, "run: recsys config --markdown > docs/configuration.md"


@pytest.mark.parametrize("path", all_keys())
def test_examples_are_valid_and_no_defaults(path: str) -> None:
    key = all_keys()[path]
    value = parse_yaml(f"value: {example_value(key)}")["value"]
    fields = [variant.field for variant in key.variants if variant.kind in ("", value)]
    field = (fields or [key.variants[0].field])[0]
    TypeAdapter(Annotated[field.annotation, field]).validate_python(value)
    assert value != key.default_kind
    assert example_value(key) != key.variants[0].default or key.chooses


def test_sections_and_keys_are_found_by_any_name() -> None:
    overview = explain(None)
    assert "training" in overview
    assert "next: recsys config SECTION" in overview
    training = explain("training")
    assert "schedule.kind" in training
    assert "One of: constant, cosine, infinite." in training
    epochs = explain("training.epochs")
    assert "Passes over the training examples" in epochs
    assert "10, because patience ends most trainings earlier." in epochs
    assert "--set training.epochs=20" in epochs
    assert explain("epochs") == epochs
    assert explain("features.item.genres.dim") == explain("features.*.dim")
    assert "loss.temperature" in explain("temperature")
    assert "cfm" in explain("ssl.method")


@pytest.mark.parametrize(
    ("name", "close"),
    [("training.epoch", "training.epochs"), ("trainning", "training"), ("lr", "data")],
)
def test_a_typo_gets_the_nearest_key(name: str, close: str) -> None:
    with pytest.raises(UserError, match=rf"has no key '{name}'; did you mean ") as error:
        explain(name)
    if name != "lr":
        assert f"did you mean {close}?" in str(error.value)


def test_the_commands() -> None:
    result = CliRunner().invoke(app, ["config", "loss.logq.strength"])
    assert result.exit_code == 0
    assert "which favours the tail" in result.output
    assert CliRunner().invoke(app, ["config", "--markdown"]).output == page()
    shown = CliRunner().invoke(app, ["--version"])
    assert (shown.exit_code, shown.output.split()[0]) == (0, "recsys")
