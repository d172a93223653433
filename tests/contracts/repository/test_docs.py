"""docs/features.md: every example is a configuration, and every kind has one."""

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from feature_store.kinds import AnyFeature
from feature_store.schema import FeatureSchema
from recsys.config.load import parse_config
from serving.server.app import RecommendRequest

PAGE = (Path(__file__).parents[3] / "docs" / "features.md").read_text(encoding="utf-8")
BLOCKS: list[Any] = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.S)]
EXAMPLES = [feature for block in BLOCKS if isinstance(block, list) for feature in block]
OF_CONTEXT_ALONE = ("time", "position")


@pytest.mark.parametrize("feature", EXAMPLES, ids=lambda feature: feature["name"])
def test_every_example_is_a_feature(feature: dict[str, Any]) -> None:
    item_id = {"name": "id", "kind": "categorical", "dim": 4}
    groups = {"item": [item_id], "query": [], "context": []}
    groups["context" if feature["kind"] in OF_CONTEXT_ALONE else "query"] = [feature]
    FeatureSchema.model_validate(groups)


@pytest.mark.parametrize("section", [block for block in BLOCKS if isinstance(block, dict)])
def test_every_section_is_one_of_a_configuration(section: dict[str, Any]) -> None:
    parse_config({"output": "out", "data": {"events": "events"}, **section})


def test_every_kind_has_an_example() -> None:
    kinds = {model.model_fields["kind"].default for model in get_args(AnyFeature)}
    assert {feature["kind"] for feature in EXAMPLES} == kinds


def test_the_request_is_one() -> None:
    (body,) = re.findall(r"```json\n(.*?)```", PAGE, re.S)
    assert RecommendRequest.model_validate(json.loads(body)).context == {"device": "phone"}
