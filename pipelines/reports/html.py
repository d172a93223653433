"""Pages as files of HTML: escaped by Jinja2, without scripts, and without the network."""

from collections.abc import Callable
from functools import cache
from importlib.resources import files
from xml.etree.ElementTree import tostring

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from pipelines.reports.opening import SIGNS
from pipelines.reports.palette import DARK, DASHES, LENGTHS, LIGHT, shade_of, style_of
from pipelines.reports.parts import Chart, Page
from pipelines.reports.plots import Bars, Graph
from pipelines.reports.svg import chart as svg
from pipelines.reports.ticks import colour_scale
from pipelines.reports.words import pieces, reworded_page

_HERE = "pipelines.reports"


def render_page(
    page: Page,
    *,
    package: str = _HERE,
    template: str = "page.html",
    draw: Callable[[Chart], Markup] | None = None,
    **extra: object,
) -> str:
    """Returns a page as HTML.

    Args:
        page: Content.
        package: Package that holds the template.
        template: Template, which may extend `page.html`.
        draw: Function that returns the markup of a chart, on screens with its legend; None: static
            SVG.
        extra: Further variables of the template.
    """
    context: dict[str, object] = {
        "page": reworded_page(page),
        "draw": draw or inline_svg,
        "legend": legend,
    }
    # A given function draws legends of its own; this one is then for paper alone.
    context["of_legend"] = "legend" if draw is None else "legend print"
    return environment(package).get_template(template).render(**context, **extra)


def svg_file(chart: Chart, *, is_titled: bool = True, width: int = 640) -> str:
    """Returns a chart as an SVG file of its own.

    Args:
        chart: Chart to draw.
        is_titled: Whether its title stands above it.
        width: Width in pixels.
    """
    css = f"{_colours('svg')}{_css('chart.css')}"
    return svg.svg_file(chart, css, legend(chart), is_titled=is_titled, width=width)


def style() -> str:
    """Returns the CSS of pages and of their charts."""
    return _colours(":root") + _css("chart.css") + _css("page.css")


@cache
def environment(package: str) -> Environment:
    """Returns the templates of a package and of this one; all that they print is escaped."""
    made = Environment(
        loader=ChoiceLoader([PackageLoader(package, ""), PackageLoader(_HERE, "")]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    made.globals["signs"] = SIGNS
    made.filters["said"] = said
    made.globals["style"] = Markup(style())
    made.globals["symbols"] = Markup(tostring(svg.symbols(), encoding="unicode"))
    return made


def said(text: str) -> Markup:
    """Returns a sentence as markup, with what is between backticks set as code."""
    return Markup("").join(
        Markup("<code>{}</code>").format(piece) if is_code else escape(piece)
        for piece, is_code in pieces(text)
    )


def legend(chart: Chart) -> list[tuple[int, str, str]]:
    """Returns style, name and kind of the series, where there is more than one.

    The kind of a value that has a colour is this colour.
    """
    plot, names = chart.plot, []
    if isinstance(plot, Bars):
        names = [(style_of(at), name, "bars") for at, name in enumerate(plot.series)]
    elif isinstance(plot, Graph):
        named = [(at, each) for at, each in enumerate(plot.series) if each.name]
        names = [(style_of(at), e.name, e.kind) for at, e in named if not e.is_faint]
        if (scale := colour_scale(plot)) is not None:
            names += [(0, text, shade_of(scale.share(value))) for value, text in scale.ticks]
    return names if len(names) > 1 else []


def inline_svg(chart: Chart) -> Markup:
    """Returns a chart as SVG that is part of a page."""
    return Markup(svg.markup(svg.draw(chart)))


def _css(name: str) -> str:
    return (files(_HERE) / name).read_text(encoding="utf-8")


def _colours(root: str) -> str:
    """Returns the palette as variables of CSS, and the classes of its styles."""

    def variables(colours: tuple[str, ...]) -> str:
        return "".join(f"--s{at}:{colour};" for at, colour in enumerate(colours))

    dashes = "".join(
        f".line.s{at}{{stroke-dasharray:{LENGTHS[name]}}}"
        for at, name in enumerate(DASHES)
        if LENGTHS[name]
    )
    styles = "".join(f".s{at}{{--c:var(--s{at})}}" for at in range(len(LIGHT)))
    return (
        f"{root}{{{variables(LIGHT)}}}"
        f"@media screen and (prefers-color-scheme:dark){{{root}:not(.light){{{variables(DARK)}}}}}"
        f"{styles}{dashes}\n"
    )
