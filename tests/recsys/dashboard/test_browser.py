"""The dashboard in headless Chromium: pages open, charts have data, nothing errs."""

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import uvicorn
from playwright.sync_api import Page

from recsys.comparison.compare import compare
from recsys.dashboard.app import build_app, export
from recsys.dashboard.sections import SECTIONS
from tests.support.browser import (
    A4_HEIGHT,
    A4_WIDTH,
    NEEDS_CHROMIUM,
    axe,
    open_browser,
    require_legible,
    require_whole_on_paper,
)

pytestmark = [pytest.mark.slow, NEEDS_CHROMIUM]

CHARTS = {
    "results": 1,
    "ranking": 2,
    "slices": 2,
    "tail": 2,
    "training": 4,
    "ssl": 3,
    "map": 1,
    "examples": 0,
    "similar": 0,
    "data": 2,
}
# No button sends data to anybody.
BUTTONS = {
    "Download plot as a PNG", "Download plot", "Zoom", "Pan", "Zoom in", "Zoom out", "Autoscale"
}  # fmt: skip


@dataclass
class Opened:
    """A browser page and the address of the dashboard."""

    page: Page
    address: str

    def go(self, path: str, charts: int = 0) -> None:
        self.page.goto(self.address + path)
        self.wait(charts)

    def wait(self, charts: int = 0) -> None:
        self.page.wait_for_selector("main h1")
        self.page.wait_for_function(
            f"document.querySelectorAll('.js-plotly-plot .main-svg').length >= {charts}"
        )

    def require_whole_on_paper(self, charts: int) -> None:
        """Requires that the page prints whole, each chart as a picture that waits for nothing."""
        self.page.set_viewport_size({"width": A4_WIDTH, "height": A4_HEIGHT})
        self.page.emulate_media(media="print")
        require_whole_on_paper(self.page)
        assert self.page.locator(".js-plotly-plot:visible, form:visible").count() == 0
        pictures = self.page.locator("img.print:visible")
        assert pictures.count() >= charts
        assert all(pictures.evaluate_all("all => all.map(each => each.naturalHeight > 50)"))
        self.page.emulate_media(media="screen")

    def buttons(self) -> set[str]:
        """Opens the toolbar of each chart, and returns the titles of the buttons."""
        titles: set[str] = set()
        for chart in self.page.locator(".js-plotly-plot:visible").all():
            chart.hover()
            titles |= set(chart.locator(".modebar-btn").evaluate_all(
                "all => all.map(each => each.dataset.title || each.getAttribute('aria-label'))"
            ))  # fmt: skip
        return titles

    def points(self) -> list[int]:
        """Returns the number of points in each chart."""
        return self.page.evaluate(
            """() => [...document.querySelectorAll('.js-plotly-plot')].map(chart =>
                chart.data.reduce((sum, trace) => sum + trace.x.length, 0))"""
        )


@pytest.fixture(scope="module")
def browser():
    with open_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def address(evaluated) -> Iterator[str]:
    app = build_app(evaluated.store())
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app.server, log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def page(browser) -> Iterator[Page]:
    """Opens one page for all tests, so that the browser keeps Plotly's script."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    yield context.new_page()
    context.close()


@pytest.fixture
def opened(page, address) -> Iterator[Opened]:
    faults: list[str] = []
    listeners = {
        "console": lambda m: faults.append(m.text) if m.type in ("error", "warning") else None,
        "pageerror": lambda error: faults.append(str(error)),
        "response": lambda r: faults.append(f"{r.status} {r.url}") if r.status >= 400 else None,
    }
    for event, listener in listeners.items():
        page.on(event, listener)
    page.set_viewport_size({"width": 1280, "height": 900})
    yield Opened(page, address)
    for event, listener in listeners.items():
        page.remove_listener(event, listener)
    assert faults == []


@pytest.mark.parametrize("key", SECTIONS)
def test_every_section_is_drawn_and_accessible(opened, evaluated, key):
    opened.go(f"/run/{evaluated.run_ids[1]}/{key}", CHARTS[key])
    assert len(opened.points()) >= CHARTS[key]
    assert all(opened.points())
    assert opened.buttons() <= BUTTONS
    assert SECTIONS[key][0] in opened.page.title()
    assert opened.page.locator("nav .current").inner_text() == SECTIONS[key][0]
    assert axe(opened.page) == []
    opened.require_whole_on_paper(CHARTS[key])


def test_the_list_is_drawn_and_leads_on(opened, evaluated):
    opened.go("/", 1)
    assert all(opened.points())
    assert axe(opened.page) == []
    assert opened.buttons() <= BUTTONS
    opened.require_whole_on_paper(1)
    opened.page.locator("tbody a").first.click()
    opened.page.wait_for_selector("nav.tabs")
    assert evaluated.run_ids[1] in opened.page.url


def test_runs_are_compared(opened, evaluated):
    opened.go("/compare")
    opened.page.get_by_label("A, in use").select_option(evaluated.run_ids[0])
    opened.page.get_by_label("B, which may replace it").select_option(evaluated.run_ids[1])
    opened.page.get_by_role("button", name="Compare").click()
    opened.page.wait_for_selector(".js-plotly-plot .main-svg")
    assert all(opened.points())
    assert opened.buttons() <= BUTTONS
    chosen = opened.page.get_by_label("A, in use").input_value()
    assert chosen == evaluated.run_ids[0]
    assert axe(opened.page) == []


def test_a_query_is_looked_up_by_the_keyboard_alone(opened, evaluated):
    opened.go(f"/run/{evaluated.run_ids[1]}/examples")
    opened.page.keyboard.press("Tab")
    assert opened.page.evaluate("document.activeElement.textContent") == "Skip to the content"
    for _ in range(20):
        opened.page.keyboard.press("Tab")
        if opened.page.evaluate("document.activeElement.name") == "query":
            break
    opened.page.keyboard.type("q7")
    opened.page.keyboard.press("Enter")
    opened.page.wait_for_url("**/examples?query=q7")
    opened.page.wait_for_selector("h2:text('User q7')")
    assert opened.page.get_by_label("User id").input_value() == "q7"


def test_a_narrow_screen_scrolls_only_down(opened, evaluated):
    opened.page.set_viewport_size({"width": 380, "height": 800})
    for path in ("/", f"/run/{evaluated.run_ids[1]}/slices"):
        opened.go(path, 1)
        width = opened.page.evaluate("document.documentElement.scrollWidth")
        assert width <= 380


def test_a_wrong_address_is_told(opened):
    opened.go("/run/0123/results")
    assert "no training with the id" in opened.page.locator("main").inner_text()


def test_static_pages_are_legible_everywhere(browser, evaluated, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", evaluated.uri)
    compare(*evaluated.run_ids[:2], tmp_path)
    config = evaluated.config
    charts = {
        config.evaluation_dir / "report.html": 9,
        config.prepared_dir / "statistics" / "quality.html": 3,
        config.train_dir / "diagnostics" / "diagnostics.html": 6,
        tmp_path / "comparison.html": 1,
    }
    context = browser.new_context(offline=True)
    page = context.new_page()
    for path, least in charts.items():
        page.goto(f"file://{path}")
        assert page.locator("svg.chart").count() >= least
        require_legible(page)
    context.close()


def test_the_file_of_a_run_opens_without_the_network(opened, evaluated, tmp_path):
    export(evaluated.uri, evaluated.run_ids[1], tmp_path / "run.html")
    opened.page.context.set_offline(True)  # Nothing undoes this: the test is the last.
    opened.page.goto(f"file://{tmp_path}/run.html")
    opened.page.wait_for_selector(".js-plotly-plot .main-svg")
    opened.page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    for place in opened.page.locator("[data-figure]").all():
        place.scroll_into_view_if_needed()
    opened.page.wait_for_function(
        "document.querySelectorAll('.js-plotly-plot .main-svg').length"
        " >= document.querySelectorAll('[data-figure]').length"
    )
    assert all(opened.points())
    assert opened.buttons() <= BUTTONS
    painted = opened.page.evaluate(
        """() => {
            Plotly.Fx.hover(document.querySelector('#map .js-plotly-plot'), [{pointNumber: 0}]);
            return [...document.querySelectorAll('.hovertext tspan')].map(
                each => getComputedStyle(each).fill);
        }"""
    )
    assert len(painted) >= 3, "a title, a feature and events"
    assert "none" not in painted
    opened.page.emulate_media(media="print")
    places = opened.page.locator("[data-figure] + .print svg.chart")
    assert places.count() == opened.page.locator("[data-figure]").count()
    assert all(place.is_visible() for place in places.all())
    opened.page.emulate_media(media="screen")
    opened.page.get_by_label("Mark items by id or title").fill("i1")
    marked = "[...document.querySelectorAll('#map .js-plotly-plot')].map(each => each.data.flatMap("
    marked += "({customdata, selectedpoints}) => (selectedpoints || []).map(at => customdata[at])))"
    found = opened.page.evaluate(marked)
    assert found
    assert all("i1" in each for each in found)
    opened.page.get_by_label("Search").first.fill("user q7:")
    shown = opened.page.locator("#examples details.entry:visible")
    assert all("User q7:" in text for text in shown.all_inner_texts())
    assert axe(opened.page) == []
