"""Elements that all plots have: labels, ticks of the horizontal axis, and its title."""

import math
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement

from pipelines.reports.plots import Axis
from pipelines.reports.ticks import Scale

# Height of a line of the text of charts, in pixels.
LINE = 14
# Room for labels, that of a phone, and the least gap of two.
_ROOM, _GAP = 270, 4
# Most characters of the name of a category.
_MOST_CATEGORY = 17


@dataclass(frozen=True)
class Drawing:
    """A plot, and the margins that its labels need.

    Attributes:
        svg: Root element; its box is the plot without the margins.
        height: Height of the plot, in pixels.
        margins: Margins in pixels: top, right, bottom, left.
    """

    svg: Element
    height: int
    margins: tuple[int, int, int, int]


def add_x_axis(root: Element, axis: Axis, x: Scale, height: int) -> int:
    """Adds ticks and title below a plot; returns the height that they take.

    Args:
        root: Element of the plot.
        axis: Horizontal axis.
        x: Its scale.
        height: Height of the plot.
    """
    below = _add_ticks(root, axis, x, height)
    if axis.title:
        below += LINE + 2
        at = str(height + below - 4)
        add_text(root, axis.title, x="100%", y=at, anchor="end", kind="name")
    return below + 4


def _add_ticks(root: Element, axis: Axis, x: Scale, height: int) -> int:
    longest = max((width(text[:_MOST_CATEGORY]) for _, text in x.ticks), default=0.0)
    is_turned = bool(axis.categories) and longest * len(x.ticks) > _ROOM
    end = -math.inf
    for value, text in x.ticks:
        share = x.share(value)
        if is_turned:
            at = SubElement(
                root, "svg", {"x": percent(share), "y": str(height + 6), "overflow": "visible"}
            )
            turned = add_text(at, text, x="0", y="8", anchor="end", most=_MOST_CATEGORY)
            turned.set("transform", "rotate(-35)")
            continue
        anchor = "start" if share < 0.02 else "end" if share > 0.98 else "middle"
        start = share * _ROOM - {"start": 0.0, "middle": 0.5, "end": 1.0}[anchor] * width(text)
        # On a phone it would run into the one before.
        if not axis.categories and start < end + _GAP:
            continue
        end = start + width(text)
        add_text(root, text, x=percent(share), y=str(height + 17), anchor=anchor)
    if not x.ticks:
        return 4
    return math.ceil(longest * math.sin(math.radians(35))) + 20 if is_turned else 22


def add_text(
    parent: Element,
    text: str,
    *,
    x: str,
    y: str,
    anchor: str = "start",
    kind: str = "",
    most: int | None = None,
) -> Element:
    """Adds a text.

    Args:
        parent: Element to add it to.
        text: Text.
        x: Position, in per cent or pixels.
        y: Position of the baseline.
        anchor: Part of the text that is at the position: start, middle or end.
        kind: Class of its style.
        most: Most characters; a longer text is cut, and whole under the pointer.
    """
    element = SubElement(parent, "text", {"x": x, "y": y})
    if anchor != "start":
        element.set("text-anchor", anchor)
    if kind:
        element.set("class", kind)
    element.text = text
    if most is not None and len(text) > most:
        element.text = f"{text[: most - 1]}…"
        SubElement(element, "title").text = text
    return element


def width(text: str) -> float:
    """Returns about the width of a text in pixels, rather too much than too little."""
    return sum(12.0 if character in "%@MWmw" else 7.8 for character in text)


def number(value: float) -> str:
    """Returns a number with at most one decimal."""
    return f"{value:.1f}".removesuffix(".0")


def percent(share: float) -> str:
    """Returns a share in per cent, with at most two decimals."""
    return f"{100 * share:.2f}".rstrip("0").rstrip(".") + "%"
