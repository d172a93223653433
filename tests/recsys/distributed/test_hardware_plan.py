"""Plans for hardware that is not there: memory by hand arithmetic, and what does not fit."""

import json
import time

import pytest
from typer.testing import CliRunner

from feature_store.core.errors import UserError
from recsys.cli import app
from recsys.config.load import with_values
from recsys.distributed.hardware_plan import (
    Hardware,
    format_hardware_plan,
    parse_rows,
    plan_hardware,
)

GIB = 2**30


def hardware(ranks, device="cuda", hbm=80.0, ddr=128.0):
    return Hardware.of(ranks, None, device, hbm, ddr)


@pytest.fixture(scope="module")
def config(planted):
    return with_values(planted, {"training.batch_size": 1024}, source="test")


def test_two_billion_rows_are_planned_in_seconds(config):
    started = time.process_time()
    plan = plan_hardware(config, hardware(64), {"item.item_id": 2_000_000_000})
    assert time.process_time() - started < 20
    table = next(table for table in plan.tables if table.feature == "item.item_id")
    # Sixteen columns and one sum of row-wise Adagrad, of four bytes each.
    assert table.bytes == dict.fromkeys(range(64), 2_000_000_000 // 64 * (16 + 1) * 4)
    assert len(plan.ranks) == 64
    assert all(rank.gpu_bytes >= rank.table_bytes > 2e9 for rank in plan.ranks)
    assert all(rank.milliseconds > 0 for rank in plan.ranks)
    assert "64 ranks of cuda, 8 on a machine" in format_hardware_plan(plan)


@pytest.mark.parametrize(
    ("optimizer", "per_row"), [("sgd", 16 * 4), ("rowwise_adagrad", 17 * 4), ("adam", 48 * 4)]
)
def test_memory_counts_the_optimizers_state(config, optimizer, per_row):
    settings = with_values(config, {"training.sparse_optimizer": optimizer}, source="test")
    plan = plan_hardware(settings, hardware(8), {"item.item_id": 8_000_000})
    table = next(table for table in plan.tables if table.feature == "item.item_id")
    assert set(table.bytes.values()) == {1_000_000 * per_row}


def test_memory_counts_the_average_of_the_weights(config):
    settings = with_values(config, {"training.averaging": 2.0}, source="test")
    rows = {"item.item_id": 8_000_000}
    plain, averaged = (plan_hardware(c, hardware(8), rows) for c in (config, settings))
    table = next(table for table in averaged.tables if table.feature == "item.item_id")
    assert set(table.bytes.values()) == {1_000_000 * (16 + 16 + 1) * 4}
    more = averaged.ranks[0].gpu_bytes - plain.ranks[0].gpu_bytes
    assert more == pytest.approx(1_000_000 * 16 * 4, rel=0.01)
    full = {"item.item_id": 2_000_000_000}  # Without the average, 16 ranks hold it.
    with pytest.raises(UserError, match="more than the"):
        plan_hardware(settings, hardware(16, hbm=16.0), full)


def test_what_does_not_fit_is_one_sentence_that_names_the_table_and_by_how_much(config):
    rows = {"item.item_id": 2_000_000_000}
    with pytest.raises(UserError) as error:
        plan_hardware(config, hardware(8, hbm=16.0), rows)
    needed, free = 250_000_000 * 17 * 4 / GIB, 16 * 0.85
    assert str(error.value).startswith(
        f"the table of item.item_id (2,000,000,000 rows of 16, row_wise) needs {needed:.1f} GiB on "
        f"one rank, which is {needed - free:.1f} GiB more than the {free:.1f} GiB that are free"
    )
    assert plan_hardware(config, hardware(16, hbm=16.0), rows).ranks


def test_many_tables_that_do_not_fit_together(config):
    rows = {"item.item_id": 1_200_000_000, "item.words": 2_400_000_000}
    with pytest.raises(
        UserError, match=r"the tables need 1\d\d\.\d GiB over all ranks, of which 1"
    ):
        plan_hardware(config, hardware(8, hbm=16.0), rows)


def test_half_precision_and_the_machines_memory_make_room(config):
    rows = {"item.item_id": 1_000_000_000}
    half = with_values(config, {"sharding.precision": "fp16"}, source="test")
    found, full = (plan_hardware(c, hardware(8), rows).ranks[0] for c in (half, config))
    assert full.table_bytes - found.table_bytes == pytest.approx(125_000_000 * 16 * 2, rel=1e-3)
    tables = {"item.item_id": {"kernel": "fused_uvm"}}
    uvm = with_values(config, {"sharding.tables": tables}, source="test")
    rank = plan_hardware(uvm, hardware(8), rows).ranks[0]
    assert rank.machine_bytes > 8e9
    assert rank.gpu_bytes < 1e9


def test_a_cpu_has_its_machines_memory(config):
    rank = plan_hardware(config, hardware(2, "cpu"), {"item.item_id": 1_000_000}).ranks[0]
    assert rank.gpu_bytes == 0
    assert rank.machine_bytes > 500_000 * 17 * 4


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (lambda c: hardware(12), "12 is not a multiple of 8 ranks on a machine"),
        (lambda c: hardware(4, "tpu"), "--device tpu: expected cpu or cuda"),
        (lambda c: parse_rows(["item.item_id=many"]), "expected a whole number of rows"),
        (
            lambda c: plan_hardware(c, hardware(4), {"item.itemid": 5}),
            "the nearest is item.item_id",
        ),
        (lambda c: plan_hardware(c, hardware(2048)), "is less than one example for each"),
    ],
)
def test_mistakes(config, action, expected):
    with pytest.raises(UserError, match=expected):
        action(config)


def test_the_command_prints_json(config, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(config.model_dump(mode="json")))
    options = ["--world-size", "4", "--rows", "item.item_id=1000000", "--json"]
    result = CliRunner().invoke(app, ["plan", str(path), *options])
    found = json.loads(result.stdout)
    assert [rank["rank"] for rank in found["ranks"]] == [0, 1, 2, 3]
    assert found["tables"][0]["rows"] == 1_000_000
