"""CFM does what it is for: it finds what only correlated features say of the long tail."""

import pytest
from bridged import bridged_config, write_bridged_log

from recsys.studies import study


@pytest.mark.slow
def test_cfm_finds_the_tail_where_the_main_task_and_random_masks_do_not(
    tmp_path, ray_session, tracking_uri
):
    write_bridged_log(tmp_path / "log")
    arms = {method: {"values": {"ssl.method": method}} for method in ("cfm", "rfm", "none")}
    config = bridged_config(
        tmp_path / "log",
        tmp_path / "out",
        tracking={"uri": tracking_uri},
        study={
            "arms": arms,
            "baseline": "cfm",
            "label_fractions": [1.0],
            "seeds": 3,
            "trials": 1,
        },
    )
    found = {arm.arm: arm.cells["tail recall@50"] for arm in study(config).arms}
    for other in ("rfm", "none"):
        assert found[other].difference is not None
        assert found[other].adjusted_p is not None
        assert found[other].difference < -0.05
        assert found[other].adjusted_p < 0.01
        assert max(found[other].seeds) < min(found["cfm"].seeds)
