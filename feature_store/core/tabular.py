"""Results that are tables, in a notebook and for pandas and Arrow."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

import pyarrow as pa

# Rows of a table in a notebook.
_SHOWN = 60
_RIGHT = {"style": "text-align:right"}


class Tabular(ABC):
    """Base class of results that are a table."""

    @abstractmethod
    def to_arrow(self) -> pa.Table:
        """Returns the result as a table."""

    def to_pandas(self) -> Any:
        """Returns the result as a data frame of pandas, which must be installed."""
        return self.to_arrow().to_pandas()

    def _repr_html_(self) -> str:
        """Returns the table as notebooks show it."""
        return html_table(self._shown())

    def _shown(self) -> pa.Table:
        """Returns the columns that a notebook shows; by default all."""
        return self.to_arrow()


def rows_table(rows: Sequence[Mapping[str, object]]) -> pa.Table:
    """Makes a table of rows, with every column that one of them has; of nulls alone, of floats."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: pa.array([row.get(name) for row in rows]) for name in names}
    return pa.table(
        {
            name: column.cast(pa.float64()) if pa.types.is_null(column.type) else column
            for name, column in columns.items()
        }
    )


def html_table(table: pa.Table) -> str:
    """Renders the first rows of a table; numbers are on the right, and texts are escaped."""
    rights = [_RIGHT if _is_number(field.type) else {} for field in table.schema]
    whole = Element("div")
    drawn = SubElement(whole, "table")
    head = SubElement(SubElement(drawn, "thead"), "tr")
    for name, right in zip(table.column_names, rights, strict=True):
        SubElement(head, "th", right).text = name
    body = SubElement(drawn, "tbody")
    for row in table.slice(0, _SHOWN).to_pylist():
        cells = SubElement(body, "tr")
        for name, right in zip(table.column_names, rights, strict=True):
            SubElement(cells, "td", right).text = _text(row[name])
    rest = table.num_rows - _SHOWN
    if rest > 0:
        SubElement(whole, "p").text = f"and {rest:,} more rows"
    return tostring(whole, encoding="unicode", method="html")


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) >= 0.0005 or not value else f"{value:.1e}"
    return ", ".join(map(_text, value)) if isinstance(value, list) else str(value)
