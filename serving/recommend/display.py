"""Recommendations on a terminal."""

from collections.abc import Sequence
from datetime import datetime
from itertools import zip_longest

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipelines.reports.words import QUERY
from serving.bundle.manifest import BundleManifest
from serving.recommend.answers import (
    ExplainedRecommendation,
    Explanation,
    Item,
    Recommendations,
    SharedValue,
)


def snapshot_note(manifest: BundleManifest) -> str:
    """Returns what a bundle knows of its queries without an online store, and until when."""
    window = manifest.data_window
    where = "before the test events" if manifest.refit is None else "the last event of the log"
    note = f"histories end {where}, and the log has no times"
    if manifest.refit is not None:
        note = "histories hold all events of a log without times"
    if window.histories_to is not None:
        note = f"histories reach to {_minute(window.histories_to)}, {where}"
    if manifest.repeats == "exclude":
        to = f" to {_minute(window.last_event)}" if window.last_event is not None else ""
        note += f"; items of all events of the log{to} are left out"
    return f"{note}; later events are unknown: --online CONFIG reads them"


def print_recommendations(
    answer: Recommendations,
    liked: Sequence[Item],
    console: Console,
    *,
    with_parts: bool = True,
    query: str = QUERY,
) -> None:
    """Prints a query's recommendations next to the latest items of its history.

    Args:
        answer: Recommendations; those that are explained are followed by their reasons.
        liked: Items of the history, latest first.
        console: Console to print on.
        with_parts: Whether reasons have the parts of the score, too, and what each adds.
        query: Word of the log for a query.
    """
    if answer.fallback or not liked:
        by = "popularity" if answer.fallback else "what else is known or given"
        console.print(f"{query} {escape(answer.query_id)} has no history: recommended by {by}")
    table = Table(box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    table.add_column("", justify="right")
    table.add_column(f"{query} {escape(answer.query_id)} liked (latest first)", max_width=44)
    table.add_column("recommended", max_width=44)
    table.add_column("score", justify="right")
    for rank, (had, item) in enumerate(zip_longest(liked, answer.items), start=1):
        table.add_row(
            str(rank),
            _name(had.title, had.item_id) if had is not None else "",
            _name(item.title, item.item_id) if item is not None else "",
            f"{item.score:.3f}" if item is not None else "",
        )
    console.print(table)
    for rank, item in enumerate(answer.items, start=1):
        if isinstance(item, ExplainedRecommendation):
            why = item.explanation
            text = _parts(why) if with_parts else _reasons(why) or "found by the towers"
            console.print(f"{rank}: {text}", highlight=False, soft_wrap=True)


def _minute(time: str) -> str:
    return f"{datetime.fromisoformat(time):%Y-%m-%d %H:%M} UTC"


def _parts(explanation: Explanation) -> str:
    parts = {"towers": explanation.towers, **explanation.channels}
    parts |= {"recent popularity": explanation.trend, "popularity dial": explanation.dial}
    # Parts that round to nothing tell nothing.
    shown = {name: part for name, part in parts.items() if abs(part) >= 0.0005}
    text = ", ".join(f"{name.replace('_', '-')} {part:+.3f}" for name, part in shown.items())
    reasons = _reasons(explanation, "{} {:+.3f}")
    return f"{text}; {reasons}" if reasons else text


def _reasons(explanation: Explanation, form: str = "{}") -> str:
    """Names items of the history and shared values.

    Args:
        explanation: Explanation of an item.
        form: Format of a name and of what it adds to the score.
    """
    # Titles may hold commas.
    because = [
        form.format(f'"{_name(each.title, each.item_id)}"', each.score)
        for each in explanation.because
    ]
    shared = [form.format(_value(each), each.score) for each in explanation.shared]
    reasons = [f"because of {', '.join(because)}"] if because else []
    reasons += [f"both have {', '.join(shared)}"] if shared else []
    return "; ".join(reasons)


def _value(shared: SharedValue) -> str:
    if shared.value is None:
        return escape(f"a similar {shared.feature}")
    return escape(f"{shared.feature} {shared.value}")


def _name(title: str | None, item_id: str) -> str:
    return escape(title if title is not None else item_id)
