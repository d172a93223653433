"""Pages as plain data: sections of text, facts, tables and charts.

Page modules return these and write no HTML. `pipelines.reports.html` makes a static file of them,
and the dashboard shows the same parts with Dash and Plotly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from pipelines.reports.opening import Opening
from pipelines.reports.plots import Graph, Plot

Tone = Literal["", "good", "warn", "bad", "soft"]
Style = Literal["plain", "strong", "warning"]


@dataclass(frozen=True)
class Cell:
    """A cell of a table, where its text is not all.

    Attributes:
        text: Text or number.
        notes: Lines below it, in small print.
        share: Length of a bar below it, from 0 to 1; None for no bar.
        tone: Judgement that colours the text, which says it too; `soft` is what says little.
        href: Address within the dashboard; elsewhere the text stands alone.
    """

    text: str
    notes: Sequence[str] = ()
    share: float | None = None
    tone: Tone = ""
    href: str = ""


Cells = Sequence[str | Cell]


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        cells: The first one names the row.
        is_strong: Whether the row is the one to look at.
    """

    cells: Cells
    is_strong: bool = False


@dataclass(frozen=True)
class Band:
    """A heading within a table, of the rows below it."""

    title: str
    note: str = ""


@dataclass(frozen=True)
class Table:
    """Rows under headings.

    Attributes:
        title: Heading of the table.
        columns: Headings of its columns.
        rows: Cells, the first of which names its row.
        note: Explanation of how to read it.
        texts: Number of leading columns that are texts; the others are numbers.
        own: Positions of the columns to look at, among those of others.
    """

    kind: ClassVar[str] = "table"

    title: str
    columns: Sequence[str]
    rows: Sequence[Row | Band | Cells]
    note: str = ""
    texts: int = 1
    own: Sequence[int] = ()


@dataclass(frozen=True)
class Chart:
    """A plot, for those who see it and for those who do not.

    Attributes:
        title: Heading of the chart.
        summary: Statement of what it says, and of what to look for, in a sentence or two.
        plot: The data.
        numbers: The same as a table; None where that is too much to read.
        is_wide: Whether it takes the width of the page.
    """

    kind: ClassVar[str] = "chart"

    title: str
    summary: str
    plot: Plot
    numbers: Table | None = None
    is_wide: bool = False

    @property
    def is_map(self) -> bool:
        """Whether it has no axes; several share a page on paper."""
        return isinstance(self.plot, Graph) and self.plot.x.is_hidden


@dataclass(frozen=True)
class Text:
    """A paragraph.

    Attributes:
        text: Its words.
        style: `strong` is what to take away; `warning` is set apart.
        see: (title, key) of the section that has more, as a link; None for no link.
    """

    kind: ClassVar[str] = "text"

    text: str
    style: Style = "plain"
    see: tuple[str, str] | None = None


@dataclass(frozen=True)
class Facts:
    """Names with their values.

    Attributes:
        pairs: (name, value) in order.
        is_large: Whether the values are figures to be seen at a glance.
    """

    kind: ClassVar[str] = "facts"

    pairs: Sequence[tuple[str, str]]
    is_large: bool = False


@dataclass(frozen=True)
class Code:
    """Text of a file, as it is."""

    kind: ClassVar[str] = "code"

    text: str


@dataclass(frozen=True)
class Entry:
    """Something to look up: a title, and what is folded away behind it.

    Attributes:
        title: Title that it is found by.
        parts: Its content.
        is_open: Whether it is unfolded at first; only then it is printed.
        key: Key of what it is about, by which a click on a chart finds it; empty: it has none.
    """

    kind: ClassVar[str] = "entry"

    title: str
    parts: "Sequence[Part]"
    is_open: bool = False
    key: str = ""


Part = Text | Facts | Table | Chart | Code | Entry


@dataclass(frozen=True)
class Section:
    """Parts with a heading.

    Attributes:
        key: Last part of its address.
        title: Heading.
        parts: Content, in order.
        is_searched: Whether its entries are many, and are looked up.
    """

    key: str
    title: str
    parts: Sequence[Part]
    is_searched: bool = False


@dataclass(frozen=True)
class Page:
    """A page that stands alone.

    Attributes:
        title: Heading.
        lead: Line that says what the page is about.
        sections: Content, in order.
        warnings: Paragraphs that a reader must not overlook.
        opening: Verdict and checks, which come first.
        query: Word of the log for a query, which the page is shown with.
    """

    title: str
    lead: str
    sections: Sequence[Section]
    warnings: Sequence[Text] = ()
    opening: Sequence[Opening] = ()
    query: str = "query"
