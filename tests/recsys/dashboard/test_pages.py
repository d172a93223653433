"""The dashboard's pages and the file of a run, without a browser."""

import dataclasses
import json
import re
from types import SimpleNamespace

import plotly.graph_objects as go
import pyarrow.parquet as pq
import pytest
from mlflow.store.entities import PagedList

from feature_store.core.errors import UserError
from pipelines.reports.opening import Verdict
from pipelines.reports.palette import LIGHT
from pipelines.reports.parts import Chart, Entry, Facts, Page, Section, Table
from pipelines.reports.plots import Axis, Bars, Graph, Mark, Range, Ranges, Series
from recsys.comparison.compare import compare
from recsys.dashboard import run_store
from recsys.dashboard.app import export
from recsys.dashboard.pages import page
from recsys.dashboard.plotly import OPTIONS, figure_of
from recsys.dashboard.run_file import render_file, script_json
from recsys.dashboard.run_store import RunStore
from recsys.dashboard.runs import history
from recsys.dashboard.sections import SECTIONS, in_use
from recsys.evaluation.results import METHOD_TITLES
from recsys.reports.run.run_data import RunData
from tests.support.colours import contrast


def text_of(component) -> str:
    """Returns the JSON of a component, which holds all its text."""
    return json.dumps(component, default=lambda c: c.to_plotly_json(), ensure_ascii=False)


def charts_of(component) -> list[dict]:
    found = []

    def walk(node):
        if isinstance(node, dict):
            if node.get("type") == "Graph":
                found.append(node["props"]["figure"])
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(json.loads(text_of(component)))
    return found


def heats_of(component) -> list[dict[str, list[str]]]:
    """Returns the texts of each heat map by row; the first row has the columns."""

    def words(node) -> str:
        if isinstance(node, dict):
            return words(node.get("props", {}).get("children", ""))
        return " ".join(map(words, node)) if isinstance(node, list) else str(node or "")

    def rows(node) -> list[list[str]]:
        if isinstance(node, list):
            return [row for each in node for row in rows(each)]
        if not isinstance(node, dict):
            return []
        if node.get("type") == "Tr":
            return [[words(cell) for cell in node["props"]["children"]]]
        return rows(node["props"].get("children"))

    found = []

    def walk(node):
        if isinstance(node, dict):
            if node.get("type") == "Table" and node["props"].get("className") == "heat":
                found.append({name: texts for name, *texts in rows(node)})
            else:
                for value in node.values():
                    walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(json.loads(text_of(component)))
    return found


CURVES = [Series("a", [(1, 0.5), (2, None)]), Series("b", [(1, 1.0)], labels=["<b>\nc"])]


@pytest.mark.parametrize(
    "plot",
    [
        Graph(CURVES, Axis("x"), Axis("y", scale="share"), [Mark("x", 2, "here")]),
        Graph(CURVES, Axis("x", scale="time"), Axis("y", scale="log"), [Mark("x", 2, "here")]),
        Graph(CURVES, Axis(categories=["p", "q", "r"]), Axis(), [Mark("y", 0.7, "here")]),
        Graph([Series("a", [(1, 2.0)], "bars"), Series("b", [], "points")], Axis(), Axis()),
        Graph([Series("a", [(0.0, 1.0)], "points", ["label"])], Axis(is_hidden=True), Axis()),
        Graph(
            [
                Series("", [(0.0, 1.0), (1.0, 2.0)], "points", values=[3.0, 9.0], keys=["a", "b"]),
                Series("found", [(0.0, 1.0)], "rings"),
            ],
            Axis(is_hidden=True),
            Axis(is_hidden=True),
            colours=Axis("year"),
        ),
        Bars(["x", "y"], {"a": [1.0, None], "b": [2.0, 0.0]}),
        Ranges([Range("a", 0.1, 0.0, 0.2, [0.1]), Range("b", 0.1, None, None)], "x"),
    ],
)
def test_figures_are_plotlys(plot):
    go.Figure(figure_of(plot))  # Plotly raises on names and values it does not know.


def test_an_interval_may_end_at_zero():
    rows = [Range("a", 0.1, 0.0, 0.2), Range("b", -0.1, -0.2, 0.0), Range("c", 0.1, None, None)]
    whiskers = figure_of(Ranges(rows, "x"))["data"][0]["error_x"]
    assert whiskers["array"] == pytest.approx([0.1, 0.1, 0.0])
    assert whiskers["arrayminus"] == pytest.approx([0.1, 0.1, 0.0])


def test_no_button_of_a_chart_sends_it_anywhere():
    buttons = [name for group in OPTIONS["modeBarButtons"] for name in group]
    assert set(buttons) <= {
        "toImage",
        "zoom2d",
        "pan2d",
        "zoomIn2d",
        "zoomOut2d",
        "autoScale2d",
    }
    assert not OPTIONS["showSendToCloud"]
    assert not OPTIONS["plotlyServerURL"]


def test_no_colour_means_anything_by_itself():
    series = [Series(str(name), [(0, 1.0)]) for name in range(8)]
    styles = {
        (trace["line"]["dash"], trace["marker"]["symbol"])
        for trace in figure_of(Graph(series, Axis(), Axis()))["data"]
    }
    assert len(styles) == 8


@pytest.mark.parametrize("colour", LIGHT)
def test_lines_stand_out_from_white(colour):
    assert contrast(colour, "#ffffff") >= 3  # WCAG 2.2, 1.4.11: 3 to 1 for graphics.


def test_runs_are_read_page_by_page_and_again(evaluated, monkeypatch):
    monkeypatch.setattr(run_store, "_RUNS_AT_ONCE", 1)
    store = evaluated.store()
    store.wait()
    assert [row.run_id for row in store.rows()] == list(reversed(evaluated.run_ids))
    assert store.is_complete
    monkeypatch.setattr(run_store, "_FRESH_SECONDS", 0.0)
    for _ in range(3):
        assert len(store.rows()) == 3


def test_a_store_that_fails_says_so_to_everyone(evaluated, monkeypatch):
    store = evaluated.store()
    monkeypatch.setattr(store, "_pages", lambda: 1 / 0)
    for _ in range(2):
        with pytest.raises(UserError, match=r"cannot read the runs of sqlite.*division by zero"):
            store.rows()


def test_the_list_has_all_runs_and_their_history(evaluated):
    store = evaluated.store()
    title, content = page(store, "/")
    words = text_of(content)
    assert title == "Runs"
    first, second, third = evaluated.run_ids
    assert f"/run/{first}/results" in words
    assert f"/run/{second}/results" in words
    (over_time,) = charts_of(content)
    overall = next(trace for trace in over_time["data"] if trace["name"] == "overall")
    values = [store.row(run_id).metric("recall@50") for run_id in (first, second)]
    assert overall["y"] == values
    everywhere = text_of(page(store, "/?output=")[1])
    assert f"/run/{third}/training" in everywhere
    assert third[:8] not in text_of(page(store, f"/?output=&search={first[:8]}")[1])


def test_a_single_run_is_a_card(evaluated):
    rows = [row for row in evaluated.store().rows() if row.metric("recall@50") is not None]
    one = history(rows[:1], "recall@50", [])
    assert isinstance(one, Facts)
    assert one.pairs[0] == ("Recall@50, overall", f"{rows[0].metric('recall@50'):.3f}")
    assert isinstance(history(rows, "recall@50", []), Chart)


def test_self_supervision_is_three_charts_and_more(evaluated):
    parts = SECTIONS["ssl"][1](evaluated.store().data(evaluated.run_ids[1])).parts
    charts = [part for part in parts if isinstance(part, Chart)]
    assert len(charts) == 3
    assert sum(isinstance(part, Entry) for part in parts) >= 1
    assert all(chart.summary.split()[0] in ("Higher", "Good", "Above") for chart in charts)


@pytest.mark.parametrize("key", SECTIONS)
def test_every_section_shows_something(evaluated, key):
    title, content = page(evaluated.store(), f"/run/{evaluated.run_ids[1]}/{key}")
    assert title.startswith(SECTIONS[key][0])
    parts = SECTIONS[key][1](evaluated.store().data(evaluated.run_ids[1])).parts
    assert any(isinstance(part, Chart | Table | Entry) for part in parts)
    for figure in charts_of(content):
        go.Figure(figure)
        assert any(len(trace.get("x", [])) for trace in figure["data"])


@pytest.mark.parametrize("key", SECTIONS)
def test_a_run_without_an_evaluation_says_so(evaluated, key):
    title, _ = page(evaluated.store(), f"/run/{evaluated.run_ids[2]}/{key}")
    assert title != "Error"


def test_slices_are_held_against_the_run_before(evaluated):
    store = evaluated.store()
    before, after, _ = evaluated.run_ids
    heat, *_ = heats_of(page(store, f"/run/{after}/slices")[1])
    overall = next(texts for name, texts in heat.items() if name.startswith("overall"))
    difference = float(overall[heat[""].index("Recall@50")])
    values = [store.row(run_id).metric("recall@50") for run_id in (before, after)]
    assert difference == pytest.approx(values[1] - values[0], abs=0.0006)
    assert any(name.startswith("item.group: ") and name.endswith(")") for name in heat)
    words = text_of(page(store, f"/run/{after}/slices?against=")[1])
    assert "Difference to popularity" in words


def test_the_map_leads_to_the_neighbours_of_what_is_found_or_clicked(evaluated):
    here = f"/run/{evaluated.run_ids[1]}/map"
    words = text_of(page(evaluated.store(), f"{here}?search=i1")[1])
    assert f"/run/{evaluated.run_ids[1]}/similar?item=i1" in words
    assert '"id": "keyed"' in words
    (figure,) = charts_of(page(evaluated.store(), f"{here}?feature=training+events")[1])
    (trace,) = figure["data"]
    assert len(trace["customdata"]) == len(trace["marker"]["color"]) == len(trace["x"])
    assert not trace["showlegend"]
    assert trace["marker"]["colorbar"]["title"]["text"] == "training events"
    nothing = text_of(page(evaluated.store(), f"{here}?search=no+such+item")[1])
    assert "No item has the id no such item" in nothing


def test_a_run_of_the_nightly_job_leads_to_the_page_of_its_day(evaluated, monkeypatch):
    store = evaluated.store()
    store.wait()
    run_id = evaluated.run_ids[1]
    tagged = dataclasses.replace(store.row(run_id), day="promoted on 2026-11-23")
    monkeypatch.setitem(store._rows, run_id, tagged)
    listed, own = (text_of(page(store, at)[1]) for at in ("/", f"/run/{run_id}/results"))
    assert f'"href": "/day/{run_id}"' in listed
    assert f'"href": "/day/{run_id}"' in own
    other = text_of(page(store, f"/run/{evaluated.run_ids[0]}/results")[1])
    assert "/day/" not in other


def test_the_long_tail_shows_both_runs(evaluated):
    before, after, _ = evaluated.run_ids
    recall, _ = charts_of(page(evaluated.store(), f"/run/{after}/tail")[1])
    assert any(before[:8] in trace["name"] for trace in recall["data"])


def test_a_query_is_looked_up(evaluated):
    rows = pq.read_table(evaluated.config.evaluation_dir / "per_query.parquet").to_pylist()
    asked = rows[len(rows) // 2]
    here = f"/run/{evaluated.run_ids[1]}/examples"
    words = text_of(page(evaluated.store(), f"{here}?query={asked['query_id']}")[1])
    assert f"User {asked['query_id']}" in words
    titles = [f"Item number {name[1:]} of group" for name in asked["model.items"][:10]]
    assert all(title in words for title in titles)
    assert "By popularity" in words
    unknown = text_of(page(evaluated.store(), f"{here}?query=q")[1])
    assert "No evaluated user has the id 'q'" in unknown
    assert "Ids that begin like it" in unknown


def test_examples_are_of_every_kind_and_have_reasons(evaluated):
    run = evaluated.store().data(evaluated.run_ids[1])
    chosen = [run.queries.answer(example.query_id) for example in run.examples]
    is_hit = [any(r is not None and r < 10 for r in answer.ranks) for answer in chosen]
    assert set(is_hit[:5]) == set(is_hit)
    assert len({answer.length for answer in chosen[:5]}) > 1
    for answer, example in zip(chosen, run.examples, strict=True):
        assert len(example.reasons) == len(answer.recommended[:10])
        assert all(reason.part in ("towers", "trend", *METHOD_TITLES) for reason in example.reasons)
    assert "chosen for variety" in SECTIONS["examples"][1](run).parts[0].text
    words = text_of(page(evaluated.store(), f"/run/{evaluated.run_ids[1]}/examples")[1])
    assert "as it has Item number" in words or "by towers" in words


def test_similar_items_are_of_known_items(evaluated):
    items = evaluated.store().data(evaluated.run_ids[1]).items
    frequency = items.names["frequency"].to_numpy()
    assert min(frequency[items.spread(12)]) >= min(10, max(frequency))


def test_similar_items_are_the_nearest(evaluated):
    items = evaluated.store().data(evaluated.run_ids[1]).items
    row = items.row_of("i17")
    near = items.similar(row)
    assert len(near) == 10
    assert row not in dict(near)
    cosines = [cosine for _, cosine in near]
    assert cosines == sorted(cosines, reverse=True)
    here = f"/run/{evaluated.run_ids[1]}/similar"
    assert "Items like Item number 17 of group 1 (i17)" in text_of(
        page(evaluated.store(), f"{here}?item=i17")[1]
    )
    by_title = text_of(page(evaluated.store(), f"{here}?item=number 17 of")[1])
    assert f"{here}?item=i17" in by_title
    assert "No item has the id or the title" in text_of(
        page(evaluated.store(), f"{here}?item=nothing")[1]
    )


def test_two_runs_are_compared(evaluated):
    before, after, without = evaluated.run_ids
    content = page(evaluated.store(), f"/compare?a={before}&b={after}")[1]
    assert "Users in common" in text_of(content)
    assert len(charts_of(content)) == 1
    title, content = page(evaluated.store(), f"/compare?a={before}&b={without}")
    assert title == "Error"
    assert "has no evaluation" in text_of(content)


def test_the_comparison_by_run_ids_has_titles(evaluated, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", evaluated.uri)
    compare(*evaluated.run_ids[:2], tmp_path, metric="ndcg@10")
    assert "Item number" in (tmp_path / "comparison.html").read_text()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("/nowhere", "there is no page /nowhere"),
        ("/run/0123/results", "no training with the id '0123'"),
        ("/run/../../etc/results", "there is no page"),
        ("/?metric=fame", "metric is 'fame', expected one of"),
    ],
)
def test_a_wrong_address_gets_a_sentence(evaluated, address, message):
    title, content = page(evaluated.store(), address)
    assert title == "Error"
    assert message in text_of(content)


def test_the_file_of_a_run_needs_nothing_else(evaluated, tmp_path):
    export(evaluated.uri, evaluated.run_ids[1], tmp_path / "run.html")
    text = (tmp_path / "run.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!#)[^"]*"', text)
    for key, (title, _) in SECTIONS.items():
        assert f'<h2 id="{key}-title">{title}</h2>' in text
    drawn = json.loads(re.search(r'id="figures">(.*?)</script>', text, re.S)[1])
    assert len(drawn) == len(re.findall(r"data-figure=", text)) > 8
    assert (tmp_path / "run.html").stat().st_size < 6_000_000


def test_titles_cannot_inject_markup():
    evil = "<!--<script></script><img src=x onerror=alert(1)>"
    table = Table(evil, [evil], [[evil]])
    graph = Graph([Series(evil, [(1, 1.0)])], Axis(evil), Axis(evil))
    chart = Chart(evil, evil, graph, table)
    html = render_file(Page(evil, evil, [Section("key", evil, [table, chart])]))
    assert "<img" not in html
    figures = [figure_of(graph)]
    assert "<" not in script_json(figures)
    assert json.loads(script_json(figures)) == figures
    assert json.loads(re.search(r'id="figures">(.*?)</script>', html, re.S)[1]) == figures


def test_a_loss_that_is_not_finite_is_a_gap(tmp_path):
    lines = ('"main": 2.0, "ssl": NaN', '"main": NaN', '"main": -Infinity')
    text = "".join(f'{{"step": {at}, {line}}}\n' for at, line in enumerate(lines, 1))
    (tmp_path / "metrics.jsonl").write_text(text)
    run = RunData("name", "id", lambda name: tmp_path / name if name == "metrics.jsonl" else None)
    assert [line["main"] for line in run.curves] == [2.0, None, None]
    _, chart = SECTIONS["training"][1](run).parts
    assert chart.plot.series[0].points == [(1, 2.0)]


def test_damaged_files_are_a_sentence(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"\xff\n")
    run = RunData("", "", lambda _: path)
    for read in (
        lambda: run.curves,
        lambda: run.items.features,
        lambda: run.items.names,
        lambda: run.queries.ids,
    ):
        with pytest.raises(UserError, match="file cannot be read: "):
            read()


def test_a_number_of_a_page_without_end_is_cut(evaluated):
    title, content = page(evaluated.store(), f"/?page={'9' * 5000}")
    assert title == "Runs"
    assert "Page 999999999 of" in text_of(content)


def test_a_run_that_changed_is_read_anew(evaluated):
    store = evaluated.store()
    run_id = evaluated.run_ids[1]
    before = store.data(run_id)
    assert store.data(run_id) is before
    store.wait()
    store._rows[run_id] = dataclasses.replace(store.row(run_id), metrics={})
    assert store.data(run_id) is not before


def test_a_store_that_does_not_exist_is_an_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="there is no MLflow store"):
        RunStore("sqlite:///nothing.db")


def test_a_page_replaces_pages_alone(evaluated, tmp_path):
    run_id = evaluated.run_ids[0]
    thesis = tmp_path / "thesis.txt"
    thesis.write_text("years of work")
    for output in (thesis, tmp_path):
        with pytest.raises(UserError, match="is no page that was written before"):
            export(evaluated.store()._uri, run_id, output)
    assert thesis.read_text() == "years of work"
    for _ in range(2):
        export(evaluated.store()._uri, run_id, tmp_path / "run.html")


def test_the_list_opens_with_the_verdict_on_the_champion_or_the_latest(evaluated):
    content = page(evaluated.store(), "/")[1]
    words = text_of(content)
    latest = next(r for r in evaluated.store().rows() if r.metric("recall@50") is not None)
    assert f"The latest run, {latest.title}: " in words or f"The champion, {latest.title}" in words
    assert words.index("baseline") < words.index("History")


def test_figures_of_bars_stand_beyond_the_whiskers():
    bars = Bars(["a", "b"], {"x": [0.5, None]}, bounds={"x": [(0.4, 0.7), None]})
    drawn, texts = figure_of(bars)["data"]
    assert "text" not in drawn
    assert texts["x"] == [0.7, 0.0]
    assert [text.strip() for text in texts["text"]] == ["0.500", "-"]
    assert texts["offsetgroup"] == drawn["offsetgroup"]


def test_nobody_has_to_export_the_champion():
    better = Verdict("better", "Better.", todo="Export it.")
    assert in_use(better).todo == ""
    worse = dataclasses.replace(better, mark="worse", todo="Look at the tail.")
    assert in_use(worse) == worse


def test_each_project_of_a_store_has_a_champion_of_its_own(evaluated, monkeypatch):
    store = evaluated.store()
    row = store.row(evaluated.run_ids[0])
    runs = {"first": "a", "second": "b"}
    rows = {r: dataclasses.replace(row, run_id=r, experiment=e) for e, r in runs.items()}
    models = [SimpleNamespace(name=name, aliases={"champion": "1"}) for name in runs]
    pages = {None: PagedList(models[:1], "more"), "more": PagedList(models[1:], None)}
    client = SimpleNamespace(
        search_registered_models=lambda page_token: pages[page_token],
        get_model_version=lambda name, version: SimpleNamespace(run_id=runs[name]),
    )
    monkeypatch.setattr(store, "_rows", rows)
    monkeypatch.setattr(store, "_client", client)
    assert store.champions() == ["a", "b"]
    assert [store.champion(name) for name in ("first", "second", "third")] == ["a", "b", None]
