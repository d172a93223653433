"""What pages are made of; the dashboard and the file of a run render the same parts."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from pipelines.reports.format import Figures, Value, interval, number

# Plotly's JSON: a figure's `data` and `layout`.
Figure = dict[str, Any]


@dataclass(frozen=True)
class Link:
    """A cell that leads somewhere; in the file of a run it is its text alone."""

    text: str
    href: str


Cell = str | Link


@dataclass(frozen=True)
class Table:
    """Rows under headings.

    Attributes:
        caption: What it shows.
        columns: Headings.
        rows: Cells; the first one names its row.
        texts: How many of the first columns are texts; the others are numbers.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    texts: int = 1


@dataclass(frozen=True)
class Chart:
    """A figure, for those who see it and for those who do not.

    Attributes:
        title: What is drawn.
        summary: What it says, in a sentence or two.
        figure: Of Plotly.
        numbers: What it was drawn from; None where that is too much to read.
        is_wide: Whether it takes the page's width.
    """

    title: str
    summary: str
    figure: Figure
    numbers: Table | None = None
    is_wide: bool = False


@dataclass(frozen=True)
class Text:
    """A paragraph; a warning is set apart."""

    text: str
    is_warning: bool = False


@dataclass(frozen=True)
class Entry:
    """Something to look up: a title, and what belongs to it, which may be folded away.

    Attributes:
        title: By which it is found.
        parts: What it holds.
    """

    title: str
    parts: "Sequence[Part]"


Part = Table | Chart | Text | Entry


@dataclass(frozen=True)
class Section:
    """Parts with a heading.

    Attributes:
        key: Of its address.
        title: Of its heading.
        parts: What it shows.
        is_searched: Whether its entries are many, and are looked up.
    """

    key: str
    title: str
    parts: Sequence[Part]
    is_searched: bool = False


def shown(value: Value, digits: int = 3) -> str:
    """A number for people, or a dash."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.{digits}f}"


# Of a row.
CLASS_OF_MODEL = ' class="model"'


def cells(figures: Figures, metrics: Iterable[str]) -> str:
    """Each metric over its interval."""
    return "".join(
        f"<td>{number(figures[name])}<small>{interval(figures[f'{name}_ci'])}</small></td>"
        for name in metrics
    )


def table(name: str, note: str, texts: list[str], numbers: list[str], rows: list[str]) -> str:
    """With headings of columns of text and of numbers; scrolls sideways, by keyboard too."""
    head = "".join(f'<th scope="col" class="text">{escape(heading)}</th>' for heading in texts)
    head += "".join(f'<th scope="col">{escape(heading)}</th>' for heading in numbers)
    return (
        f'<p class="soft">{escape(note)}</p>'
        f'<div class="scroll" tabindex="0" role="group" aria-label="{escape(name)}">'
        f'<table aria-label="{escape(name)}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
