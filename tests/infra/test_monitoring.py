"""The dashboard and the alerts: their queries use what server and job really show."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from pipelines.http.admission import Admission, Limits
from serving.nightly.notify import notify
from serving.recommend.timing import StageTimer
from serving.server.metrics import ServerMetrics
from tests.serving.nightly.test_notify import OUTCOME
from tests.support.infra.files import INFRA
from tests.support.nightly.daily_log import daily_config

_PAGE = INFRA / "grafana" / "dashboards" / "recsys.json"
DASHBOARD: dict[str, Any] = json.loads(_PAGE.read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
ALERTS = [
    rule
    for group in yaml.safe_load((INFRA / "prometheus" / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
QUERIES += [rule["expr"] for rule in ALERTS]
# Prometheus adds these itself.
ADDED = {"job", "instance", "le"}


def server_text() -> str:
    """Returns the metrics of a server that has done all that it counts."""
    metrics: Any = ServerMetrics()
    timer = StageTimer()
    timer.end("tower")
    metrics.count_request("/recommend", 200, 0.01)
    metrics.count_recommendations("main", timer, fallbacks=1)
    metrics.count_events(2, unknown=1)
    metrics.count_swap("done")
    metrics.set_models({"main": 3}, {"main": "abc"})
    metrics.watch_log(lambda: 0)
    metrics.watch_online_store(SimpleNamespace(failures=0, is_available=True))
    metrics.watch_memory(SimpleNamespace(size=0, forgotten=0))
    metrics.watch_connections(Admission(Limits()))
    return str(metrics.text().decode())


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Returns the labels of all metrics by name."""
    directory = tmp_path_factory.mktemp("metrics")
    path = directory / "job.prom"
    config = daily_config(directory, directory / "out", job={"notify": {"textfile": str(path)}})
    outcome = OUTCOME.model_copy(update={"champion_value": 0.2, "champion_age_days": 3})
    notify(config, outcome, Path(), lambda _: None)
    labels: dict[str, set[str]] = {"up": set()}
    for text in (server_text(), path.read_text()):
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels.setdefault(sample.name, set()).update(sample.labels)
    return labels


def parts(expression: Any) -> Iterator[Any]:
    """Yields an expression and all that it is made of."""
    yield expression
    for name in ("expr", "lhs", "rhs", "param", "vector_selector", "vs"):
        part = getattr(expression, name, None)
        if part is not None:
            yield from parts(part)
    for part in getattr(expression, "args", None) or ():
        yield from parts(part)


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_uses_what_is_shown(query: str, shown: dict[str, set[str]]) -> None:
    found = list(parts(promql_parser.parse(query.replace("$__rate_interval", "5m"))))
    selected = [part for part in found if isinstance(part, promql_parser.VectorSelector)]
    assert selected
    known: set[str] = set(ADDED)
    for selector in selected:
        assert selector.name in shown
        labels = shown[selector.name] | ADDED
        assert {matcher.name for matcher in selector.matchers.matchers} <= labels
        known |= labels
    for part in found:
        grouped = getattr(getattr(part, "modifier", None), "labels", None) or ()
        assert set(grouped) <= known


def test_every_metric_of_the_job_is_on_the_dashboard(shown: dict[str, set[str]]) -> None:
    queries = " ".join(QUERIES)
    assert [name for name in shown if name.startswith("recsys_job_") and name not in queries] == []


def test_legends_name_labels_that_there_are(shown: dict[str, set[str]]) -> None:
    known = set().union(*shown.values()) | ADDED
    for panel in PANELS:
        for target in panel["targets"]:
            assert set(target["legendFormat"].split("{{")[1:]) == {
                each for each in target["legendFormat"].split("{{")[1:]
                if each.partition("}}")[0] in known
            }  # fmt: skip


def test_the_dashboard_is_laid_out_and_asks_the_source_that_is_provisioned() -> None:
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert place["x"] + place["w"] <= 24
        taken |= cells
    provisioned = INFRA / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioned / "datasources" / "prometheus.yaml").read_text())[
        "datasources"
    ]
    for panel in PANELS:
        for each in (panel, *panel["targets"]):
            assert each["datasource"] == {"type": source["type"], "uid": source["uid"]}
