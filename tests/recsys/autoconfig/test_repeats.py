"""Repetitions of a log, by which `recsys init` chooses `data.repeats`."""

import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from pipelines.profile.repeats import RepeatShare
from pipelines.settings import History, LeaveLastOut
from recsys.autoconfig.repeats import choose_repeats
from tests.support.logs.init_logs import START, init

DAY = 86_400


def log(returning: float, *, bursts: bool = False) -> dict[str, np.ndarray]:
    """Returns a log in which a part of the queries ends with the item that it began with.

    Args:
        returning: Share of these queries.
        bursts: Whether each query has a day of its own, so that no cut in time leaves it whole.
    """
    queries, each = 200, 7
    random = np.random.default_rng(0)
    items = np.stack([random.choice(40, each, replace=False) for _ in range(queries)])
    returns = np.arange(queries) % 10 < round(10 * returning)
    items[returns, -1] = items[returns, 0]
    starts = np.arange(queries) * (DAY if bursts else 1)
    times = START + starts[:, None] + np.arange(each) * (60 if bursts else DAY)
    query = np.repeat(np.arange(queries), each)
    return {"query_id": query, "item_id": items.reshape(-1), "timestamp": times.reshape(-1)}


@pytest.mark.parametrize(
    ("returning", "bursts", "split", "repeats", "why"),
    [
        (0.8, False, "time", "allow", "80 % of test items are ones that the query had before"),
        (0.2, False, "time", "allow", "20 % of test items"),
        (0.1, False, "time", "exclude", "10 % of test items are ones that the query had before; "),
        (0.0, False, "time", "exclude", "0 % of test items"),
        (0.8, True, "leave_last_out", "allow", "80 % of queries end with an item that they had"),
        (0.1, True, "leave_last_out", "exclude", "10 % of queries end with an item"),
    ],
)
def test_the_share_of_held_out_items_that_come_back_decides(
    tmp_path: Path, returning: float, bursts: bool, split: str, repeats: str, why: str
) -> None:
    said = io.StringIO()
    config = init(tmp_path, log(returning, bursts=bursts), console=Console(file=said, width=200))
    assert (config.data.split.kind, config.data.repeats) == (split, repeats)
    text = " ".join((tmp_path / "config.yaml").read_text().replace("#", "").split())
    assert f"repeats: {repeats} {why}" in text
    why = why.replace("the query", "the user").replace("queries", "users")
    assert (f"data.repeats is allow: {why}" in said.getvalue()) == (repeats == "allow")


def test_repetitions_at_the_same_moment_are_duplicates(tmp_path: Path) -> None:
    events = {name: np.repeat(column, 2) for name, column in log(0.0, bursts=True).items()}
    assert init(tmp_path, events).data.repeats == "exclude"
    assert init(tmp_path, events, split="leave_last_out").data.repeats == "exclude"


def test_a_split_without_repetitions_excludes(tmp_path: Path) -> None:
    assert init(tmp_path, log(0.8), split="random_hash").data.repeats == "exclude"
    assert "puts all events of a query and an item" in (tmp_path / "config.yaml").read_text()
    timeless = {name: values for name, values in log(0.8).items() if name != "timestamp"}
    assert init(tmp_path, timeless).data.repeats == "exclude"


def test_a_split_of_the_log_is_judged_by_the_last_events(tmp_path: Path) -> None:
    events = {**log(0.8), "split": np.tile(["train"] * 5 + ["validation", "test"], 200)}
    config = init(tmp_path, events)
    assert (config.data.split.kind, config.data.repeats) == ("given", "allow")


@pytest.mark.parametrize(
    ("found", "repeats", "is_news", "why"),
    [
        ((0.25, 1.0), "allow", True, "between 25 % and 100 % (by a sample)"),
        ((0.01, 0.6), "exclude", True, "if it is 20 % or more, set allow"),
        ((0.01, 0.15), "exclude", False, "from 20 % on: allow"),
    ],
)
def test_a_sample_that_cannot_tell_says_so(found, repeats, is_news, why) -> None:
    share = RepeatShare(*found)
    time = SimpleNamespace(cut=None, repeats_of_last=share)
    split = SimpleNamespace(split=LeaveLastOut(), history=History())
    choice = choose_repeats(SimpleNamespace(time=time), split)
    assert (choice.repeats, choice.is_news) == (repeats, is_news)
    assert why in choice.why
