"""Charts as SVG within a page, or as files of their own.

The plot lies at percentages of the width and at pixels of the height. Its labels stand outside of
it, in margins that the page leaves; so nothing is scaled on a phone or on paper.
"""

from collections.abc import Sequence
from xml.etree.ElementTree import Element, SubElement, tostring

from pipelines.reports.palette import OUTLINES, SYMBOLS
from pipelines.reports.parts import Chart
from pipelines.reports.plots import Bars, Graph, Ranges
from pipelines.reports.svg.elements import LINE, Drawing, add_text, number
from pipelines.reports.svg.elements import width as text_width
from pipelines.reports.svg.graph import draw_graph
from pipelines.reports.svg.rows import draw_bars, draw_ranges

# Width of a legend's sample, with the space before its name.
_SAMPLE = 32


def draw(chart: Chart) -> Drawing:
    """Draws a chart; a heat map is a table and none of these."""
    root = Element("svg", {"class": "chart", "role": "img", "aria-label": chart.title})
    plot = chart.plot
    if isinstance(plot, Graph):
        drawing = draw_graph(root, plot)
    elif isinstance(plot, Bars):
        drawing = draw_bars(root, plot)
    elif isinstance(plot, Ranges):
        drawing = draw_ranges(root, plot)
    else:
        raise TypeError(f"a chart of {type(plot).__name__} is no SVG")
    root.set("height", str(drawing.height))
    return drawing


def markup(drawing: Drawing) -> str:
    """Returns a drawing as it stands in a page."""
    top, right, bottom, left = drawing.margins
    drawing.svg.set(
        "style",
        f"margin:{top}px {right}px {bottom}px {left}px;width:calc(100% - {left + right}px)",
    )
    return tostring(drawing.svg, encoding="unicode")


def svg_file(
    chart: Chart,
    style: str,
    legend: Sequence[tuple[int, str, str]],
    *,
    is_titled: bool = True,
    width: int = 640,
) -> str:
    """Returns a chart as a file of its own, with its title and its legend.

    Args:
        chart: Chart to draw.
        style: CSS.
        legend: Style, name and kind of the series; a kind that begins with # is a colour.
        is_titled: Whether the title stands above it.
        width: Width in pixels.
    """
    drawing = draw(chart)
    top, right, bottom, left = drawing.margins
    places = _places([text_width(name) for _, name, _ in legend], width)
    title = 24 if is_titled else 4
    head = top + title + (places[-1][1] + LINE + 6 if places else 0)
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
    if is_titled:
        add_text(whole, chart.title, x="0", y="16", kind="title")
    for (x, y), (of_style, name, kind) in zip(places, legend, strict=True):
        _add_entry(whole, name, f"s{of_style}", kind, x, y + title + 10)
    for name in ("role", "aria-label"):
        del drawing.svg.attrib[name]
    drawing.svg.attrib |= {"x": str(left), "y": str(head), "width": str(width - left - right)}
    drawing.svg.set("overflow", "visible")
    whole.append(drawing.svg)
    return tostring(whole, encoding="unicode")


def _places(widths: Sequence[float], width: int) -> list[tuple[float, int]]:
    """Returns the place of each entry of a legend, in as many lines as they need."""
    places, x, y = [], 0.0, 0
    for each in widths:
        if x and x + _SAMPLE + each > width:
            x, y = 0.0, y + LINE + 4
        places.append((x, y))
        x += _SAMPLE + each + 16
    return places


def _add_entry(root: Element, name: str, style: str, kind: str, x: float, y: int) -> None:
    """Adds an entry of a legend, the sample of the style before the name."""
    left, middle = number(x), str(y - 4)
    if kind.startswith("#"):
        sample = {"cx": number(x + 13), "cy": middle, "r": "5", "fill": kind}
        SubElement(root, "circle", sample)
    elif kind == "bars":
        sample = {"class": f"area {style}", "x": left, "y": str(y - 9), "width": "26"}
        SubElement(root, "rect", {**sample, "height": "10"})
    else:
        if kind == "line":
            line = {"class": f"line {style}", "x1": left, "x2": number(x + 26)}
            SubElement(root, "line", {**line, "y1": middle, "y2": middle})
        shape = "ring" if kind == "rings" else f"symbol-{style[1:]}"
        symbol = {"class": f"dots {style}", "href": f"#{shape}", "y": middle}
        SubElement(root, "use", {**symbol, "x": number(x + 13)})
    add_text(root, name, x=number(x + _SAMPLE), y=str(y))


def symbols() -> Element:
    """Returns the definitions of the points' symbols, one for each style, and of a ring."""
    defs = Element("defs")
    for at, name in enumerate(SYMBOLS):
        SubElement(defs, "path", {"id": f"symbol-{at}", "d": OUTLINES[name]})
    SubElement(defs, "circle", {"id": "ring", "class": "ring", "r": "9"})
    return defs
