"""The columns of a table, for the quality page."""

from unicodedata import bidirectional

from pipelines.quality.quality import ColumnQuality, TableQuality
from pipelines.reports.parts import Cell, Cells, Table

_SHOWN_VALUES = 5


def columns_table(table: TableQuality) -> Table:
    """Returns the columns of a table: their values, and how many are missing or distinct."""
    rows: list[Cells] = [
        [
            Cell(column.name, [column.type]),
            _numbers(column),
            _top(column),
            share_cell(column.missing),
            _distinct(column),
        ]
        for column in table.columns
    ]
    return Table(
        f"Columns of {table.name}",
        ["Column", "Values", "Most frequent", "Missing", "Distinct"],
        rows,
        note="Kept rows; of events before duplicates are dropped. A value is missing where it is "
        "null or an empty list. The values of lists are their elements, and of vectors their "
        "norms.",
        texts=3,
    )


def _distinct(column: ColumnQuality) -> str | Cell:
    if column.distinct is None:
        return "-"
    error = [f"± {column.distinct_error:.1%}"] if column.distinct_error else []
    return Cell(f"{column.distinct:,}", error)


def _numbers(column: ColumnQuality) -> str | Cell:
    text, notes = "", []
    if column.smallest is not None and column.largest is not None:
        text = f"{_number(column.smallest)} to {_number(column.largest)}"
        notes.append(f"median {_number(column.quantiles['p50'])}")
    if column.mean is not None and column.deviation is not None:
        notes.append(f"mean {column.mean:,.4g}, deviation {column.deviation:,.4g}")
    if column.values_per_row is not None:
        notes.append(f"{column.values_per_row:,.1f} values a row")
    if column.invalid_numbers:
        notes.append(f"{column.invalid_numbers:,} NaN or infinite")
    return Cell(text, notes) if text or notes else "-"


def _top(column: ColumnQuality) -> str:
    values = [
        f"{_isolated(each.value) or '(empty)'} ({each.share:.1%})"
        for each in column.top[:_SHOWN_VALUES]
    ]
    return ", ".join(values) or "-"


def _isolated(text: str) -> str:
    """Keeps a value that is written from right to left from turning what stands around it."""
    is_turned = any(bidirectional(character) in ("R", "AL", "AN") for character in text)
    return f"\u2068{text}\u2069" if is_turned else text


def _number(value: float | str) -> str:
    if isinstance(value, str):
        return value.replace("T", " ")
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}" if abs(value) >= 10_000 else f"{int(value)}"
    return f"{value:,.4g}"


def share_cell(share: float) -> Cell:
    """Returns a share in per cent above a bar of its length."""
    return Cell(f"{share:.1%}", share=min(1.0, max(0.0, share)))
