"""Charts as SVG within a page, or as files of their own.

The plot lies at percentages of the width and at pixels of the height. Its labels stand outside of
it, in margins that the page leaves; so nothing is scaled on a phone or on paper.
"""

from xml.etree.ElementTree import Element, SubElement, tostring

from pipelines.reports.palette import OUTLINES, SYMBOLS
from pipelines.reports.parts import Chart
from pipelines.reports.plots import Bars, Graph, Ranges
from pipelines.reports.svg.elements import Drawing, add_text
from pipelines.reports.svg.graph import draw_graph
from pipelines.reports.svg.rows import draw_bars, draw_ranges


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
    add_text(whole, chart.title, x="0", y="16", kind="title")
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
