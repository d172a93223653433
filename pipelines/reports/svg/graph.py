"""Drawing of series in the plane.

Curves are in an SVG within, which is stretched to the width of the plot; their strokes are not.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from xml.etree.ElementTree import Element, SubElement

from pipelines.reports.palette import shade_of, style_of
from pipelines.reports.plots import Graph, Series
from pipelines.reports.svg.elements import (
    LINE,
    Drawing,
    add_text,
    add_x_axis,
    number,
    percent,
    width,
)
from pipelines.reports.ticks import Scale, colour_scale, scale_of

# Width of the SVG that is stretched.
_STRETCH = 1000
# Most points of a curve that has dots.
_MOST_DOTS = 60


def draw_graph(root: Element, graph: Graph) -> Drawing:
    """Draws series in the plane."""
    points = [point for series in graph.series for point in series.points]
    known = [(x, y) for x, y in points if y is not None and math.isfinite(y)]
    ends = [end for each in graph.series for pair in each.bounds if pair for end in pair]
    marks = {axis: [m.value for m in graph.marks if m.axis == axis] for axis in ("x", "y")}
    x = scale_of(graph.x, [*(point[0] for point in points), *marks["x"]])
    y = scale_of(graph.y, [*(point[1] for point in known), *marks["y"], *ends], is_padded=True)
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
    colours = colour_scale(graph)
    for at, series in enumerate(graph.series):
        is_dotted = series.kind == "line" and len(series.points) <= _MOST_DOTS
        if (series.kind in ("points", "rings") or is_dotted) and not series.is_faint:
            group = _dots(root, series, at, x, y, graph.height)
            if colours is not None:
                for dot, value in zip(group.iter("use"), series.values, strict=False):
                    dot.set("fill", shade_of(colours.share(value)))
    left = max((width(text) for _, text in y.ticks), default=0.0)
    top = LINE + 12 if graph.y.title else 8
    return Drawing(root, graph.height, (top, 14, bottom, math.ceil(left) + 8))


def _axes(root: Element, graph: Graph, x: Scale, y: Scale) -> int:
    """Draws grid, ticks, titles and marks; returns the height of what is below the plot."""
    height = graph.height
    for value, text in y.ticks:
        at = number((1 - y.share(value)) * height)
        SubElement(root, "line", {"class": "grid", "x1": "0", "x2": "100%", "y1": at, "y2": at})
        add_text(root, text, x="-6", y=number(float(at) + 4), anchor="end")
    if graph.y.title:
        add_text(root, graph.y.title, x="0", y="-9", kind="name")
    if not graph.x.is_hidden:
        base = SubElement(root, "line", {"class": "axis", "x1": "0", "x2": "100%"})
        base.attrib |= {"y1": str(height), "y2": str(height)}
    below = add_x_axis(root, graph.x, x, height)
    for mark in graph.marks:
        line = SubElement(root, "line", {"class": "mark"})
        if mark.axis == "x":
            at = percent(x.share(mark.value))
            line.attrib |= {"x1": at, "x2": at, "y1": "0", "y2": str(height)}
        else:
            at = number((1 - y.share(mark.value)) * height)
            line.attrib |= {"x1": "0", "x2": "100%", "y1": at, "y2": at}
        SubElement(line, "title").text = mark.label
    return below


def _path(series: Series, x: Scale, y: Scale, height: int) -> str:
    """Returns the outline of a curve, with a new start after each gap."""
    parts, is_open = [], False
    for at, value in series.points:
        if value is None or not math.isfinite(value):
            is_open = False
            continue
        place = f"{number(x.share(at) * _STRETCH)},{number((1 - y.share(value)) * height)}"
        parts.append(f"{'L' if is_open else 'M'}{place}")
        is_open = True
    return "".join(parts)


def _columns(series: Series, x: Scale, y: Scale, height: int) -> str:
    """Returns the outline of all bars."""
    half = _bar_width([series]) * 0.45
    base = number((1 - y.share(max(0.0, y.low))) * height)
    return "".join(
        f"M{number(x.share(at - half) * _STRETCH)},{base}V{number((1 - y.share(value)) * height)}"
        f"H{number(x.share(at + half) * _STRETCH)}V{base}Z"
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


def _dots(root: Element, series: Series, at: int, x: Scale, y: Scale, height: int) -> Element:
    style = style_of(at)
    group = SubElement(root, "g", {"class": f"dots s{style}"})
    labels = series.labels or [""] * len(series.points)
    bounds = series.bounds or [None] * len(series.points)
    faint = series.faint or [False] * len(series.points)
    for (place, value), label, ends, is_faint in zip(
        series.points, labels, bounds, faint, strict=True
    ):
        if value is None or not math.isfinite(value):
            continue
        at_x = percent(x.share(place))
        if ends is not None:
            low, high = (number((1 - y.share(end)) * height) for end in ends)
            whisker = {"class": "whisker", "x1": at_x, "x2": at_x, "y1": low, "y2": high}
            SubElement(group, "line", whisker)
        shape = "ring" if series.kind == "rings" else f"symbol-{style}"
        dot = SubElement(group, "use", {"href": f"#{shape}", "x": at_x})
        if is_faint:
            dot.set("class", "few")
        dot.set("y", number((1 - y.share(value)) * height))
        SubElement(dot, "title").text = label or f"{place:.6g}: {value:.6g}"
    return group
