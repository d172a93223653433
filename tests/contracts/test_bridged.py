"""CFM learns from correlated features what no label tells about the long tail."""

from pathlib import Path
from typing import Any

import pytest

from recsys.stages.evaluate import evaluate
from recsys.stages.prepare import prepare
from recsys.stages.train import train
from recsys.studies.analysis import analyse
from tests.support.logs.bridged import bridged_config, write_bridged_log

ARMS: dict[str, dict[str, Any]] = {
    "cfm": {"method": "cfm", "alpha": 1.0},
    "rfm": {"method": "rfm", "alpha": 1.0},
    "none": {"method": "none"},
}
SEEDS = 3


@pytest.mark.slow
def test_cfm_finds_the_tail_where_the_main_task_and_random_masks_do_not(
    tmp_path: Path, tracking_uri
):
    write_bridged_log(tmp_path / "log")
    tests: dict[str, list[Path]] = {arm: [] for arm in ARMS}
    prepared: Path | None = None
    for arm, ssl in ARMS.items():
        for seed in range(SEEDS):
            config = bridged_config(
                tmp_path / "log",
                tmp_path / f"{arm}-{seed}",
                ssl=ssl,
                training={"seed": seed},
                tracking={"uri": tracking_uri},
            )
            if prepared is None:
                prepare(config)
                prepared = config.prepared_dir
            else:
                Path(config.output).mkdir()
                config.prepared_dir.symlink_to(prepared)
            train(config)
            evaluate(config)
            tests[arm].append(config.evaluation_dir / "per_query.parquet")
    cells, pairs = analyse(tests, "cfm")
    found = {arm: cells[arm]["tail recall@50"] for arm in ARMS}
    assert pairs["tail recall@50"] > 500
    for other in ("rfm", "none"):
        assert found[other].difference < -0.08
        assert found[other].adjusted_p < 0.01
        assert max(found[other].seeds) < min(found["cfm"].seeds)
    # CFM loses nothing of what the labels teach, over all items and in the head.
    for name in ("recall@50", "head recall@50"):
        assert cells["cfm"][name].mean > cells["none"][name].mean - 0.01
