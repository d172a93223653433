"""Tables of the report."""

from collections.abc import Iterable
from html import escape

from recsys.metrics import Figures
from recsys.results import interval, number

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
