"""One self-contained HTML file of a run, with the dashboard's interactive charts."""

import base64
import gzip
import json
from functools import cache
from importlib.resources import files

from markupsafe import Markup

from pipelines.reports.html import inline_svg, render_page
from pipelines.reports.parts import Chart, Page
from recsys.dashboard.plotly import OPTIONS, Figure, figure_of
from recsys.dashboard.sections import SECTIONS, opening_of
from recsys.reports.run.run_data import RunData

_PLACE = Markup(
    '<div class="graph screen" role="group" aria-label="{}" data-figure="{}" '
    'style="height:{}px"></div><div class="print">{}</div>'
)


def render_run(run: RunData, title: str, champion: RunData | None) -> str:
    """Returns the file.

    Args:
        run: Run to show.
        title: Title of the page.
        champion: Run in use; None where there is none.
    """
    sections = [section_of(run) for _, section_of in SECTIONS.values()]
    lead, opening = f"MLflow run {run.run_id}", opening_of(run, champion)
    page = Page(f"Run {title}", lead, sections, opening=opening, query=run.query)
    return render_file(page)


def render_file(page: Page) -> str:
    """Returns a page whose charts Plotly draws; it opens without the network, and from MLflow."""
    figures: list[Figure] = []

    def draw(chart: Chart) -> Markup:
        """Keeps the figure, and returns the element that it is drawn into; paper gets the SVG."""
        figures.append(figure_of(chart.plot))
        height = figures[-1]["layout"]["height"]
        return _PLACE.format(chart.title, len(figures) - 1, height, inline_svg(chart))

    # The figures are known once the sections have been rendered.
    return render_page(
        page,
        package="recsys.dashboard",
        template="run_file.html",
        draw=draw,
        figures=lambda: Markup(script_json(figures)),
        options=Markup(script_json(OPTIONS)),
        plotly=Markup(_plotly()),
    )


def script_json(value: object) -> str:
    """Returns JSON for a script element, whose end no title can spell."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")


@cache
def _plotly() -> str:
    """Returns Plotly's script, compressed, for it is most of the file; the browser unpacks it."""
    script = (files("plotly") / "package_data" / "plotly.min.js").read_bytes()
    return base64.b64encode(gzip.compress(script, mtime=0)).decode("ascii")
