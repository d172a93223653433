"""The SVG of charts: as wide as the page allows, with text of one size at any width.

The plot lies at percentages of the width and at pixels of the height. Its labels stand outside of
it, in margins that the page leaves; so nothing is scaled on a phone or on paper. Curves are in an
SVG within, which is stretched, and whose strokes are not.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from xml.etree.ElementTree import Element, SubElement, tostring

from pipelines.reports.palette import OUTLINES, SYMBOLS, style_of
from pipelines.reports.parts import Chart
from pipelines.reports.plots import Axis, Bars, Graph, Range, Ranges, Series
from pipelines.reports.ticks import Scale, scale_of

# Height of a line of the text of charts, in pixels.
_LINE = 14
# A line within the stretched SVG.
_STRETCH = 1000
_MOST_DOTS = 60
# Room for the names of categories before they are turned: that of a phone.
_ROOM = 270
_BAR, _BAR_STEP, _ROW = 11, 14, 40
# Most characters of the name of a row, and of a category.
_MOST_NAME, _MOST_CATEGORY = 38, 14


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


def draw(chart: Chart) -> Drawing:
    """Draws a chart; a heat map is a table and none of these."""
    root = Element("svg", {"class": "chart", "role": "img", "aria-label": chart.title})
    plot = chart.plot
    if isinstance(plot, Graph):
        height, margins = _graph(root, plot)
    elif isinstance(plot, Bars):
        height, margins = _bars(root, plot)
    elif isinstance(plot, Ranges):
        height, margins = _ranges(root, plot)
    else:
        raise TypeError(f"a chart of {type(plot).__name__} is no SVG")
    root.set("height", str(height))
    return Drawing(root, height, margins)


def markup(drawing: Drawing) -> str:
    """Returns a drawing as it stands in a page."""
    top, right, bottom, left = drawing.margins
    drawing.svg.set(
        "style",
        f"margin:{top}px {right}px {bottom}px {left}px;width:calc(100% - {left + right}px)",
    )
    return tostring(drawing.svg, encoding="unicode")


def svg_file(chart: Chart, style: str, width: int = 640) -> str:
    """Returns a chart as a file of its own, with its title.

    Args:
        chart: Chart to draw.
        style: CSS.
        width: Width in pixels.
    """
    drawing = draw(chart)
    top, right, bottom, left = drawing.margins
    head = top + 24
    whole = Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "viewBox": f"0 0 {width} {head + drawing.height + bottom}",
            "width": str(width),
            "role": "img",
        },
    )
    SubElement(whole, "title").text = chart.title
    SubElement(whole, "desc").text = chart.summary
    SubElement(whole, "style").text = style
    whole.append(symbols())
    _text(whole, chart.title, x="0", y="16", kind="title")
    for name in ("role", "aria-label"):
        del drawing.svg.attrib[name]
    drawing.svg.attrib |= {"x": str(left), "y": str(head), "width": str(width - left - right)}
    drawing.svg.set("overflow", "visible")
    whole.append(drawing.svg)
    return tostring(whole, encoding="unicode")


def symbols() -> Element:
    """Returns the definitions of the points' symbols, one for each style."""
    defs = Element("defs")
    for at, name in enumerate(SYMBOLS):
        SubElement(defs, "path", {"id": f"symbol-{at}", "d": OUTLINES[name]})
    return defs


def _graph(root: Element, graph: Graph) -> tuple[int, tuple[int, int, int, int]]:
    points = [point for series in graph.series for point in series.points]
    known = [(x, y) for x, y in points if y is not None and math.isfinite(y)]
    marks = {axis: [m.value for m in graph.marks if m.axis == axis] for axis in ("x", "y")}
    x = scale_of(graph.x, [*(point[0] for point in points), *marks["x"]])
    y = scale_of(graph.y, [*(point[1] for point in known), *marks["y"]], is_padded=True)
    if any(series.kind == "bars" for series in graph.series):
        x = _with_room(x, _bar_width(graph.series))
    bottom = _axes(root, graph, x, y)
    stretched = SubElement(
        root,
        "svg",
        {
            "viewBox": f"0 0 {_STRETCH} {graph.height}",
            "preserveAspectRatio": "none",
            "width": "100%",
            "height": str(graph.height),
            "overflow": "visible",
        },
    )
    for at, series in enumerate(graph.series):
        kind = "faint" if series.is_faint else f"s{style_of(at)}"
        if series.kind == "bars":
            path = _columns(series, x, y, graph.height)
            SubElement(stretched, "path", {"class": f"area {kind}", "d": path})
        elif series.kind == "line":
            line = SubElement(stretched, "path", {"class": f"line {kind}"})
            line.set("d", _path(series, x, y, graph.height))
            line.set("vector-effect", "non-scaling-stroke")
            if series.is_faint and series.name:
                SubElement(line, "title").text = series.name
    for at, series in enumerate(graph.series):
        is_dotted = series.kind == "line" and len(series.points) <= _MOST_DOTS
        if (series.kind == "points" or is_dotted) and not series.is_faint:
            _dots(root, series, at, x, y, graph.height)
    left = max((_width(text) for _, text in y.ticks), default=0.0)
    top = _LINE + 12 if graph.y.title else 8
    return graph.height, (top, 14, bottom, math.ceil(left) + 8)


def _axes(root: Element, graph: Graph, x: Scale, y: Scale) -> int:
    """Draws grid, ticks, titles and marks; returns the height of what is below the plot."""
    height = graph.height
    for value, text in y.ticks:
        at = _number((1 - y.share(value)) * height)
        SubElement(root, "line", {"class": "grid", "x1": "0", "x2": "100%", "y1": at, "y2": at})
        _text(root, text, x="-6", y=_number(float(at) + 4), anchor="end")
    if graph.y.title:
        _text(root, graph.y.title, x="0", y="-9", kind="name")
    if not graph.x.is_hidden:
        base = SubElement(root, "line", {"class": "axis", "x1": "0", "x2": "100%"})
        base.attrib |= {"y1": str(height), "y2": str(height)}
    below = _x_ticks(root, graph.x, x, height)
    if graph.x.title:
        below += _LINE + 2
        _text(root, graph.x.title, x="100%", y=str(height + below - 4), anchor="end", kind="name")
    for mark in graph.marks:
        line = SubElement(root, "line", {"class": "mark"})
        if mark.axis == "x":
            at = _percent(x.share(mark.value))
            line.attrib |= {"x1": at, "x2": at, "y1": "0", "y2": str(height)}
        else:
            at = _number((1 - y.share(mark.value)) * height)
            line.attrib |= {"x1": "0", "x2": "100%", "y1": at, "y2": at}
        SubElement(line, "title").text = mark.label
    return below + 4


def _x_ticks(root: Element, axis: Axis, x: Scale, height: int) -> int:
    longest = max((_width(text[:_MOST_CATEGORY]) for _, text in x.ticks), default=0.0)
    is_turned = bool(axis.categories) and longest * len(x.ticks) > _ROOM
    for value, text in x.ticks:
        share = x.share(value)
        if is_turned:
            at = SubElement(
                root, "svg", {"x": _percent(share), "y": str(height + 6), "overflow": "visible"}
            )
            turned = _text(at, text, x="0", y="8", anchor="end", most=_MOST_CATEGORY)
            turned.set("transform", "rotate(-35)")
            continue
        anchor = "start" if share < 0.02 else "end" if share > 0.98 else "middle"
        _text(root, text, x=_percent(share), y=str(height + 17), anchor=anchor)
    if not x.ticks:
        return 4
    return math.ceil(longest * math.sin(math.radians(35))) + 20 if is_turned else 22


def _path(series: Series, x: Scale, y: Scale, height: int) -> str:
    """Returns the outline of a curve, with a new start after each gap."""
    parts, is_open = [], False
    for at, value in series.points:
        if value is None or not math.isfinite(value):
            is_open = False
            continue
        place = f"{_number(x.share(at) * _STRETCH)},{_number((1 - y.share(value)) * height)}"
        parts.append(f"{'L' if is_open else 'M'}{place}")
        is_open = True
    return "".join(parts)


def _columns(series: Series, x: Scale, y: Scale, height: int) -> str:
    """Returns the outline of all bars."""
    half = _bar_width([series]) * 0.45
    base = _number((1 - y.share(max(0.0, y.low))) * height)
    return "".join(
        f"M{_number(x.share(at - half) * _STRETCH)},{base}V{_number((1 - y.share(value)) * height)}"
        f"H{_number(x.share(at + half) * _STRETCH)}V{base}Z"
        for at, value in series.points
        if value is not None
    )


def _bar_width(series: Sequence[Series]) -> float:
    """Returns the smallest distance of two bars."""
    values = sorted({x for each in series if each.kind == "bars" for x, _ in each.points})
    gaps = [after - before for before, after in pairwise(values)]
    return min(gaps, default=1.0)


def _with_room(scale: Scale, width: float) -> Scale:
    return Scale(scale.low - width / 2, scale.high + width / 2, scale.is_log, scale.ticks)


def _dots(root: Element, series: Series, at: int, x: Scale, y: Scale, height: int) -> None:
    style = style_of(at)
    group = SubElement(root, "g", {"class": f"dots s{style}"})
    labels = series.labels or [""] * len(series.points)
    for (place, value), label in zip(series.points, labels, strict=True):
        if value is None or not math.isfinite(value):
            continue
        dot = SubElement(group, "use", {"href": f"#symbol-{style}", "x": _percent(x.share(place))})
        dot.set("y", _number((1 - y.share(value)) * height))
        SubElement(dot, "title").text = label or f"{place:.6g}: {value:.6g}"


def _bars(root: Element, bars: Bars) -> tuple[int, tuple[int, int, int, int]]:
    values = [v for each in bars.series.values() for v in each if v is not None]
    longest = max([*values, 0.0]) or 1.0
    y = 0
    for row, name in enumerate(bars.groups):
        _text(root, name, x="0", y=str(y + 12), kind="name", most=_MOST_NAME)
        y += 18
        axis = SubElement(root, "line", {"class": "axis", "x1": "0", "x2": "0", "y1": str(y - 2)})
        for at, (method, lengths) in enumerate(bars.series.items()):
            value = lengths[row]
            share = max(0.0, value or 0.0) / longest
            bar = SubElement(root, "rect", {"class": f"area s{style_of(at)}", "x": "0"})
            bar.attrib |= {"y": str(y), "width": _percent(share), "height": str(_BAR)}
            SubElement(bar, "title").text = method
            text = "-" if value is None else format(value, bars.spec)
            end = _text(root, text, x=_percent(share), y=str(y + 10))
            end.set("dx", "6")
            y += _BAR_STEP
        axis.set("y2", str(y))
        y += 10
    room = max((_width(format(value, bars.spec)) for value in values), default=8.0)
    return max(y - 8, 1), (4, math.ceil(room) + 8, 6, 1)


def _ranges(root: Element, ranges: Ranges) -> tuple[int, tuple[int, int, int, int]]:
    ends = [v for row in ranges.rows for v in _values(row)]
    bounds = (min(ends, default=0.0), max(ends, default=1.0))
    if ranges.is_difference:
        reach = max(abs(bounds[0]), abs(bounds[1]), 1e-4) * 1.05
        bounds = (-reach, reach)
    height = _ROW * len(ranges.rows)
    x = scale_of(Axis(bounds=bounds, spec=_fewer(ranges.spec)), ends)
    for value, _ in x.ticks:
        at = _percent(x.share(value))
        kind = "zero" if ranges.is_difference and abs(value) < 1e-12 else "grid"
        SubElement(root, "line", {"class": kind, "x1": at, "x2": at, "y1": "0", "y2": str(height)})
    for place, row in enumerate(ranges.rows):
        y = place * _ROW
        if place:
            rule = SubElement(root, "line", {"class": "grid", "x1": "-8", "x2": "100%"})
            rule.attrib |= {"y1": str(y), "y2": str(y)}
        _text(root, row.name, x="-6", y=str(y + 13), kind="name", most=_MOST_NAME)
        middle = str(y + 27)
        for value in row.dots:
            SubElement(
                root,
                "circle",
                {"class": "seed", "cx": _percent(x.share(value)), "cy": middle, "r": "2.5"},
            )
        if row.low is not None and row.high is not None:
            whisker = SubElement(root, "line", {"class": "line s0", "y1": middle, "y2": middle})
            whisker.set("x1", _percent(x.share(row.low)))
            whisker.set("x2", _percent(x.share(row.high)))
        dot = SubElement(root, "use", {"class": "dots s0", "href": "#symbol-0", "y": middle})
        dot.set("x", _percent(x.share(row.value)))
        text = _text(root, format(row.value, ranges.spec), x="100%", y=str(y + 31))
        text.set("dx", "8")
    below = _x_ticks(root, Axis(), x, height)
    if ranges.title:
        below += _LINE + 2
        _text(root, ranges.title, x="100%", y=str(height + below - 4), anchor="end", kind="name")
    room = max((_width(format(row.value, ranges.spec)) for row in ranges.rows), default=8.0)
    return max(height, 1), (4, math.ceil(room) + 10, below + 4, 8)


def _values(row: Range) -> list[float]:
    return [v for v in (row.value, row.low, row.high, *row.dots) if v is not None]


def _fewer(spec: str) -> str:
    """Returns the format of ticks, whose numbers are round: the step decides on decimals."""
    return "" if "%" not in spec else "+.1%" if "+" in spec else ".1%"


def _text(
    parent: Element,
    text: str,
    *,
    x: str,
    y: str,
    anchor: str = "start",
    kind: str = "",
    most: int | None = None,
) -> Element:
    """Adds a text; one that is cut is whole under the pointer."""
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


def _width(text: str) -> float:
    """Returns about the width of a text in pixels, rather too much than too little."""
    return sum(12.0 if character in "%@MWmw" else 7.8 for character in text)


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _percent(share: float) -> str:
    return f"{100 * share:.2f}".rstrip("0").rstrip(".") + "%"
