"""A small study: what it compares, that it is resumed, and the arithmetic of its tables."""

import json
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from scipy import stats

from feature_store.core.errors import UserError
from recsys.config.load import with_values
from recsys.config.study import Arm
from recsys.evaluation.results import METRICS_JSON, EvaluationResult, TradeOff
from recsys.studies import units as study_units
from recsys.studies.analysis import analyse
from recsys.studies.arms import arms_of, default_arms, trials_of
from recsys.studies.study import study
from recsys.studies.units import unit_of
from recsys.training import launch as launch_module
from recsys.training.run import TrainingRun
from tests.recsys.comparison.test_compare import write_run
from tests.support.planted import planted_config, write_planted_log


@pytest.fixture(scope="module")
def config(tmp_path_factory, ray_session, tracking_uri):
    directory = tmp_path_factory.mktemp("study")
    write_planted_log(directory)
    config = planted_config(
        directory, directory / "out", training={"epochs": 1}, tracking={"uri": tracking_uri}
    )
    return with_values(
        config,
        {
            "study.arms": {
                "none": {"values": {"ssl.method": "none"}},
                "cfm": {
                    "values": {"ssl.method": "cfm"},
                    "space": {"ssl.alpha": {"choices": [0.1, 0.5]}},
                },
            },
            "study.label_fractions": [1.0, 0.3],
            "study.seeds": 2,
            "study.trials": 2,
        },
        source="the test",
    )


@pytest.mark.slow
def test_a_study_is_done_once_and_goes_on(config, monkeypatch):
    result = study(config)
    assert [(arm.label_fraction, arm.arm) for arm in result.arms] == [
        (1.0, "none"),
        (1.0, "cfm"),
        (0.3, "none"),
        (0.3, "cfm"),
    ]
    whole, few = (result.counts[f"training events with {f} of labels"] for f in ("100%", "30%"))
    assert few == pytest.approx(0.3 * whole, rel=0.1)
    for arm in result.arms:
        cell = arm.cells["recall@50"]
        assert len(cell.seeds) == 2
        assert (cell.difference is None) == (arm.arm == "none")
    text = (config.study_dir / "study.md").read_text()
    assert "30 % of the labels" in text
    assert json.loads((config.study_dir / "study.json").read_text())["seeds"] == 2
    assert (config.study_dir / "recall-50-0.3.svg").read_text().startswith("<svg")

    ran = []
    monkeypatch.setattr(study_units, "_run_on_ray", lambda waiting, *_: ran.extend(waiting))
    assert study(config) == result
    assert not ran
    more = with_values(config, {"study.seeds": 3}, source="the test")
    with pytest.raises(AssertionError):
        study(more)
    assert [unit.name for unit in ran] == [
        f"{arm} with {labels} of labels, seed 3"
        for labels in ("100%", "30%")
        for arm in ("none", "cfm")
    ]


@pytest.mark.slow
def test_a_study_does_not_take_results_of_other_data(config):
    base = with_values(config, {"data.label_fraction": 0.3}, source="the test")
    names = [
        unit_of(base, prepared, config.study_dir / "runs", "none", {}, seed=1, is_tested=False)
        for prepared in (config.prepared_dir, config.study_dir / "labels-0.3" / "prepared")
    ]
    assert names[0].directory != names[1].directory


def test_every_objective_is_tuned_with_the_same_number_of_trials(config):
    arms = default_arms()
    assert list(arms) == ["none", "feature_dropout", "spread_out", "rfm", "cfm"]
    for name, arm in arms.items():
        tried = trials_of(config, name, arm, 4)
        assert len({json.dumps(values, sort_keys=True) for values in tried}) == 4
        assert tried[0] == {"ssl.method": name}
        assert tried == trials_of(config, name, arm, 4)
    assert trials_of(config, "none", Arm(), 4) == [{}]


def test_a_list_of_methods_is_an_arm_of_each(config):
    listed = with_values(config, {"study.arms": ["none", "cfm"]}, source="the test")
    assert arms_of(listed) == {name: default_arms()[name] for name in ("none", "cfm")}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"study.arms": {"a": {"values": {"data.events": "x"}}}, "study.baseline": "a"},
            "is not of",
        ),
        ({"study.arms": {"none": {"values": {"ssl.alhpa": 1}}}}, "alhpa"),
        ({"study.arms": {}, "study.baseline": "b"}, "is none of the arms"),
        ({"study.arms": ["none", "cmf"]}, "lists 'cmf', which is no method"),
    ],
)
def test_what_is_no_arm_is_refused(config, values, sentence):
    with pytest.raises(UserError, match=sentence):
        arms_of(with_values(config, values, source="the test"))


def test_means_intervals_and_tests_by_hand(tmp_path):
    for arm, skill in (("base", 0.3), ("good", 0.6)):
        for seed in (1, 2, 3):
            write_run(tmp_path / f"{arm}{seed}", skill, 10 * seed + len(arm))
    paths = {
        arm: [tmp_path / f"{arm}{s}" / "evaluation" / "per_query.parquet" for s in (1, 2, 3)]
        for arm in ("base", "good")
    }
    cells, pairs = analyse(paths, "base")
    tables = [pq.read_table(path) for path in paths["good"]]
    seeds = [np.mean(table["model.ndcg@10"].to_numpy()) for table in tables]
    cell = cells["good"]["ndcg@10"]
    assert cell.seeds == pytest.approx(tuple(seeds), abs=1e-6)
    low, high = stats.t.interval(0.95, 2, np.mean(seeds), stats.sem(seeds))
    assert (cell.low, cell.high) == pytest.approx((low, high), abs=1e-6)
    assert cell.p is not None
    assert cell.p < 0.01
    assert cell.difference == pytest.approx(cell.mean - cells["base"]["ndcg@10"].mean, abs=1e-6)
    assert cells["base"]["ndcg@10"].p is None
    names = [name for row in tables[0]["held_out_slice"].to_pylist() for name in row]
    assert pairs["tail recall@50"] == names.count("tail")
    hits = [
        sum(
            name == "tail" and rank is not None and rank < 50
            for names, ranks in zip(
                table["held_out_slice"].to_pylist(), table["model.ranks"].to_pylist(), strict=True
            )
            for name, rank in zip(names, ranks, strict=True)
        )
        for table in tables
    ]
    tail = cells["good"]["tail recall@50"]
    assert tail.seeds == pytest.approx([h / names.count("tail") for h in hits])


def test_tails_are_compared_at_one_percent_of_loss(tmp_path):
    def measured(tail: float) -> EvaluationResult:
        points = tuple(
            TradeOff(dial=dial, recall={"recall@50": overall}, slices={"tail": value})
            for dial, overall, value in ((0.0, 0.5, 0.1), (0.5, 0.495, tail), (1.0, 0.4, 0.9))
        )
        texts = ("split", "history", "prepared_fingerprint", "training_fingerprint")
        return EvaluationResult(
            overall={},
            slices={},
            counts={},
            baselines={},
            mlflow_run_id="",
            trade_off={"test": points},
            **dict.fromkeys(texts, ""),
        )

    tails = {"base": (0.2, 0.3), "good": (0.4, 0.6)}
    paths = {}
    for arm, values in tails.items():
        for seed, tail in enumerate(values):
            directory = Path(write_run(tmp_path / f"{arm}{seed}", 0.3, seed)) / "evaluation"
            (directory / METRICS_JSON).write_text(measured(tail).model_dump_json())
            paths.setdefault(arm, []).append(directory / "per_query.parquet")
    cells, pairs = analyse(paths, "base")
    name = "tail recall@50 at 1 % loss"
    for arm, values in tails.items():
        assert cells[arm][name].seeds == pytest.approx(values)
        assert cells[arm][name].p is None
        assert "the same of the towers alone" not in cells[arm]  # There is no such curve.
    assert pairs[name] == pairs["tail recall@50"]


def test_trainings_side_by_side_keep_to_their_threads(monkeypatch, config, tmp_path):
    # With all cores for each, two on two cores take three times as long as one after the other.
    seen = []

    def note(*_):
        seen.append(torch.get_num_threads())

    run = TrainingRun(
        config=config,
        work_dir=tmp_path,
        identity="",
        prepared_fingerprint="",
        plan_identity="",
        step=0,
        started_from=None,
    )
    monkeypatch.setattr(launch_module, "train_on_rank", note)
    before = torch.get_num_threads()
    try:
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        torch.set_num_threads(1)
        launch_module.launch(run)
        monkeypatch.delenv("OMP_NUM_THREADS")
        launch_module.launch(run)
    finally:
        torch.set_num_threads(before)
    assert seen == [1, len(os.sched_getaffinity(0))]
