"""The time that a training still takes, from its speed and its validations."""

import io
from itertools import count

import pytest
from rich.console import Console

from recsys.checkpoint.manifest import Progress
from recsys.evaluation.selection import Score
from recsys.training.estimate import Estimate
from recsys.training.progress import TrainingProgress

START = Progress(step=0, plan="p", best_step=0, best_value=None, stale=0)


def estimate(**changes):
    """Returns an estimate of 1,000 steps, whose clock goes on by 20 s at each look."""
    ticks = count(0, 20)
    settings = {"every": 100, "patience": 3, "clock": lambda: float(next(ticks))}
    return Estimate(START, 1000, **{**settings, **changes})


def test_patience_bounds_what_is_left():
    left = estimate()
    assert left.text() == ""
    left.reached(0)
    assert left.text() == ""  # One point has no speed.
    left.reached(20)
    assert (left.first_end, left.last_end) == (300, 1000)
    assert left.text() == "5 to 16 min left"
    left.validated(100, Score(0.5, 0.0))
    assert left.first_end == 400
    left.validated(200, Score(0.4, 0.0))
    left.validated(300, Score(0.5, 0.0))  # Not better than the first.
    assert left.first_end == 400
    left.validated(400, Score(0.5, 0.1))
    assert left.first_end == 700
    left.validated(500, Score(0.6, 0.0))
    assert left.first_end == 800
    left.validated(900, Score(0.7, 0.0))
    left.reached(920)
    assert left.first_end == 1000
    assert left.text() == "3 s left"


def test_without_anything_held_out_patience_does_not_end_a_training():
    left = estimate()
    left.validated(100, None)
    assert (left.first_end, left.last_end) == (1000, 1000)


def test_annealing_comes_after_patience():
    left = estimate(annealing=50, patience=1)
    assert left.first_end == 150
    left.validated(100, Score(0.5, 0.0))
    assert (left.first_end, left.last_end) == (250, 1000)
    left.validated(200, Score(0.4, 0.0))
    assert (left.first_end, left.last_end) == (250, 250)


@pytest.mark.parametrize("is_terminal", [False, True])
def test_a_line_tells_the_step_and_what_is_left_before_the_losses(is_terminal, monkeypatch):
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=is_terminal, width=80)
    monkeypatch.setattr("recsys.training.progress._LINE_SECONDS", -1.0)
    progress = TrainingProgress(console, 0, 1000, 100, "recall@50", estimate())
    losses = {"examples_per_second": 8000.0, "loader_wait": 0.0, "main": 4.3, "ssl": 2.5}
    with progress:
        progress.show([{"step": 20, **losses}])
        progress.show([{"step": 100, "validation.recall@50": 0.5133, "validation.ndcg@all": 0.1}])
    text = "epoch 2/10, step 100/1000, 75 s to 4 min left, recall@50 0.51"
    assert text in shown.getvalue()
    assert "ssl 2.5" in shown.getvalue() or is_terminal  # The end of a long line is cut.
