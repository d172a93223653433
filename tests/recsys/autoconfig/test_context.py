"""`recsys init` proposes a context, and never switches it on."""

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from recsys.autoconfig.init import init_config
from recsys.config.load import load_config
from tests.support.logs.init_logs import log, write

PROPOSED = "  # context:"


def with_circumstances(events: dict[str, Any]) -> dict[str, Any]:
    random = np.random.default_rng(1)  # With the seed of the log, items would tell the devices.
    rows = len(events["query_id"])
    return {
        **events,
        "device": random.choice(["phone", "tv", "desk"], rows).tolist(),
        "list_position": random.integers(0, 20, rows),
        "battery": random.random(rows),
        "was_purchased": random.random(rows) < 0.1,
        "dwell_seconds": random.integers(0, 100, rows),
    }


def uncommented(text: str) -> str:
    """Returns the document with its proposal switched on."""
    before, _, after = text.partition(f"{PROPOSED}\n")
    lines = [
        line.replace("  # ", "  ", 1) if line.startswith("  #   ") else line
        for line in after.split("\n")
    ]
    return "\n".join([before + "  context:", *lines])


def test_what_may_be_known_beforehand_is_proposed(tmp_path: Path) -> None:
    events = write(tmp_path / "events.parquet", with_circumstances(log()))
    output = tmp_path / "config.yaml"
    config = init_config(events, None, None, output)
    assert config.features.context == ()
    text = output.read_text()
    assert "what is known only afterwards" in text.replace("\n  # ", " ")
    output.write_text(uncommented(text))
    switched_on = load_config(output)
    kinds = {feature.name: feature.kind for feature in switched_on.features.context}
    times = [name for name, kind in kinds.items() if kind == "time"]
    assert {name: kind for name, kind in kinds.items() if kind != "time"} == {
        "device": "categorical",
        "list_position": "position",
        "battery": "numeric",
    }
    assert times[:2] == ["hour", "weekday"]
    assert yaml.safe_load(text)["features"].keys() == {"item", "query"}


def test_a_log_without_a_clock_has_no_time_to_propose(tmp_path: Path) -> None:
    columns = {name: values for name, values in log().items() if name != "timestamp"}
    output = tmp_path / "config.yaml"
    init_config(write(tmp_path / "events.parquet", columns), None, None, output)
    assert PROPOSED not in output.read_text()
