"""Settings of a process leave alone what the user has set, and share the cores."""

import logging
import os

import pytest
import torch

import recsys
from pipelines.process import (
    quiet_engines,
    quiet_tune,
    sleep_while_waiting,
    thread_share,
    use_all_cores,
    use_threads,
)

NAMES = ("ray.train", "mlflow", "optuna")


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    """Restores the environment, the loggers and the threads after each test."""
    for name in ("RAY_USAGE_STATS_ENABLED", "RAY_AIR_NEW_OUTPUT", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    levels = {name: logging.getLogger(name).level for name in NAMES}
    threads = torch.get_num_threads()
    yield
    for name in ("RAY_USAGE_STATS_ENABLED", "RAY_AIR_NEW_OUTPUT", "OMP_NUM_THREADS"):
        os.environ.pop(name, None)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    torch.set_num_threads(threads)


def test_a_variable_that_the_user_has_set_stays(monkeypatch):
    monkeypatch.setenv("RAY_AIR_NEW_OUTPUT", "1")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    quiet_engines()
    quiet_tune()
    assert (os.environ["RAY_AIR_NEW_OUTPUT"], os.environ["RAY_USAGE_STATS_ENABLED"]) == ("1", "1")


def test_engines_are_quiet_and_none_becomes_louder():
    for name, level in (("ray.train", logging.NOTSET), ("mlflow", logging.INFO)):
        logging.getLogger(name).setLevel(level)
    quiet_engines()
    assert {logging.getLogger(name).level for name in ("ray.train", "mlflow")} == {logging.ERROR}
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    quiet_tune()
    quiet_engines()  # As when a trial opens the MLflow store.
    assert logging.getLogger("ray.train").level == logging.CRITICAL


def test_processes_share_the_cores():
    cores = len(os.sched_getaffinity(0))
    assert thread_share(1) == cores
    assert thread_share(cores) == thread_share(10 * cores) == 1


def test_a_worker_keeps_to_its_share():
    use_threads(1)
    use_all_cores()
    assert torch.get_num_threads() == 1
    del os.environ["OMP_NUM_THREADS"]
    use_all_cores()
    assert torch.get_num_threads() == thread_share(1)


def test_threads_sleep_while_they_wait_unless_the_user_says_otherwise(monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    assert recsys.load_config
    assert os.environ["OMP_WAIT_POLICY"] == "passive"
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    sleep_while_waiting()
    assert os.environ["OMP_WAIT_POLICY"] == "active"
