"""Drawing of plots whose rows stand below each other: bars and ranges."""

import math
from xml.etree.ElementTree import Element, SubElement

from pipelines.reports.palette import style_of
from pipelines.reports.plots import Axis, Bars, Range, Ranges
from pipelines.reports.svg.elements import Drawing, add_text, add_x_axis, percent, width
from pipelines.reports.ticks import scale_of

# Heights of a bar, of a bar with the space below it, and of a range, in pixels.
_BAR, _BAR_STEP, _ROW = 11, 14, 40
# Most characters of the name of a row.
_MOST_NAME = 38


def draw_bars(root: Element, bars: Bars) -> Drawing:
    """Draws groups of lying bars, with the name above each group."""
    values = [v for each in bars.series.values() for v in each if v is not None]
    ends = [pair[1] for each in bars.bounds.values() for pair in each if pair]
    longest = max([*values, *ends, 0.0]) or 1.0
    y = 0
    for row, name in enumerate(bars.groups):
        add_text(root, name, x="0", y=str(y + 12), kind="name", most=_MOST_NAME)
        y += 18
        axis = SubElement(root, "line", {"class": "axis", "x1": "0", "x2": "0", "y1": str(y - 2)})
        for at, (method, lengths) in enumerate(bars.series.items()):
            value = lengths[row]
            share = max(0.0, value or 0.0) / longest
            is_few = bool(bars.faint) and bars.faint[row]
            kind = f"area s{style_of(at)}{' few' * is_few}"
            bar = SubElement(root, "rect", {"class": kind, "x": "0"})
            bar.attrib |= {"y": str(y), "width": percent(share), "height": str(_BAR)}
            SubElement(bar, "title").text = method
            text = "-" if value is None else format(value, bars.spec)
            bounds = bars.bounds.get(method, [None] * len(lengths))[row]
            if bounds is not None:
                low, share = (max(0.0, bound) / longest for bound in bounds)
                whisker = {"class": "whisker", "x1": percent(low), "x2": percent(share)}
                SubElement(root, "line", {**whisker, "y1": str(y + 5.5), "y2": str(y + 5.5)})
            end = add_text(root, text, x=percent(share), y=str(y + 10))
            end.set("dx", "6")
            y += _BAR_STEP
        axis.set("y2", str(y))
        y += 10
    room = max((width(format(value, bars.spec)) for value in values), default=8.0)
    return Drawing(root, max(y - 8, 1), (4, math.ceil(room) + 8, 6, 1))


def draw_ranges(root: Element, ranges: Ranges) -> Drawing:
    """Draws values with their intervals, with the name above each."""
    ends = [v for row in ranges.rows for v in _values(row)]
    bounds = (min(ends, default=0.0), max(ends, default=1.0))
    if ranges.is_difference:
        reach = max(abs(bounds[0]), abs(bounds[1]), 1e-4) * 1.05
        bounds = (-reach, reach)
    height = _ROW * len(ranges.rows)
    x = scale_of(Axis(bounds=bounds, spec=_fewer(ranges.spec)), ends)
    for value, _ in x.ticks:
        at = percent(x.share(value))
        kind = "zero" if ranges.is_difference and abs(value) < 1e-12 else "grid"
        SubElement(root, "line", {"class": kind, "x1": at, "x2": at, "y1": "0", "y2": str(height)})
    for place, row in enumerate(ranges.rows):
        y = place * _ROW
        if place:
            rule = SubElement(root, "line", {"class": "grid", "x1": "-8", "x2": "100%"})
            rule.attrib |= {"y1": str(y), "y2": str(y)}
        add_text(root, row.name, x="-6", y=str(y + 13), kind="name", most=_MOST_NAME)
        middle = str(y + 27)
        for value in row.dots:
            SubElement(
                root,
                "circle",
                {"class": "seed", "cx": percent(x.share(value)), "cy": middle, "r": "2.5"},
            )
        if row.low is not None and row.high is not None:
            whisker = SubElement(root, "line", {"class": "line s0", "y1": middle, "y2": middle})
            whisker.set("x1", percent(x.share(row.low)))
            whisker.set("x2", percent(x.share(row.high)))
        dot = SubElement(root, "use", {"class": "dots s0", "href": "#symbol-0", "y": middle})
        dot.set("x", percent(x.share(row.value)))
        text = add_text(root, format(row.value, ranges.spec), x="100%", y=str(y + 31))
        text.set("dx", "8")
    below = add_x_axis(root, Axis(ranges.title), x, height)
    room = max((width(format(row.value, ranges.spec)) for row in ranges.rows), default=8.0)
    return Drawing(root, max(height, 1), (4, math.ceil(room) + 10, below, 8))


def _values(row: Range) -> list[float]:
    return [v for v in (row.value, row.low, row.high, *row.dots) if v is not None]


def _fewer(spec: str) -> str:
    """Returns the format of ticks, whose numbers are round: the step decides on decimals."""
    return "" if "%" not in spec else "+.1%" if "+" in spec else ".1%"
