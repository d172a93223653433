"""The context of a request: the exported tower sees what the trained one saw."""

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
import torch

import serving
from feature_store.core.errors import UserError
from feature_store.encoding.context import NO_TIME, encode_time, time_values
from feature_store.kinds import TimeFeature
from pipelines.prepared.reader import Prepared
from recsys.data.builder import BatchBuilder
from recsys.model.encode import encode_queries
from serving.recommend.options import RecommendOptions
from serving.recommend.recommender import Recommender
from serving.server.app import create_app
from serving.server.service import Service
from tests.serving.server.test_server import recommend
from tests.support.servers import running
from tests.support.tiny_bundle import (
    LATEST,
    QUERIES,
    export_untrained,
    raw_context,
    untrained,
    write_prepared,
)

CONTEXT: list[dict[str, Any]] = [
    {"name": "device", "kind": "categorical", "dim": 8},
    {"name": "load", "kind": "numeric", "dim": 4},
    {"name": "pages", "kind": "sequence", "dim": 4, "half_life": 1},
    {"name": "vector", "kind": "vector", "dim": 4, "length": 3},
    {"name": "rank", "kind": "position", "dim": 4},
    {"name": "hour", "kind": "time", "part": "hour", "dim": 4, "zone": "Europe/Paris"},
    {"name": "day", "kind": "time", "part": "weekday", "dim": 4},
    {"name": "since", "kind": "time", "part": "recency", "dim": 4},
]
AT = datetime(2020, 9, 14, 23, 30, tzinfo=UTC)
MOMENT = 1_600_126_200_000_000


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    config = write_prepared(tmp_path_factory.mktemp("context"), features={"context": CONTEXT})
    with pytest.MonkeyPatch.context() as patch:
        manifest = export_untrained(config, patch)
    return config, manifest


@pytest.fixture(scope="module")
def recommender(exported) -> Recommender:
    return serving.load(exported[0].bundle_dir)


def test_a_served_context_is_the_trained_towers(exported, recommender):
    config, manifest = exported
    assert manifest.gate.query_difference < 1e-6
    prepared = Prepared(config.prepared_dir)
    model, trained = untrained(config)
    builder = BatchBuilder(prepared, trained.config)
    raw = raw_context()
    features = {feature.name: feature for feature in prepared.features.context}
    times = {
        name: time_values(features[name], np.full(QUERIES, MOMENT), LATEST)
        for name in ("hour", "day", "since")
    }
    table = pa.table({**{name: raw[name] for name in raw.column_names}, **times})
    context = prepared.context_encoder.encode(table)
    history = prepared.query_state.history("test")
    cpu = torch.device("cpu")
    expected = encode_queries(model, builder, np.arange(QUERIES), history, context, cpu)
    for query, values in enumerate(raw.to_pylist()):
        found = recommender.encode([str(query)], RecommendOptions(values, AT))[0]
        np.testing.assert_allclose(found, expected[query], atol=1e-6)
    without = recommender.encode([str(q) for q in range(QUERIES)], RecommendOptions(at=AT))
    assert (np.abs(without - expected).max(axis=1)[1:] > 1e-4).all()  # Query 0 gives nothing.


def test_every_time_and_value_of_a_request_reaches_the_vector(recommender):
    base = RecommendOptions({"device": "d1", "load": 3}, AT)
    vector = recommender.encode(["3"], base)
    others = [
        RecommendOptions({"device": "d2", "load": 3}, AT),
        RecommendOptions({"device": "d1", "load": 4}, AT),
        RecommendOptions({"device": "d1", "load": 3, "pages": ["p1"]}, AT),
        RecommendOptions({"device": "d1", "load": 3}, AT.replace(hour=22)),
        RecommendOptions({"device": "d1", "load": 3}, AT.replace(day=15)),
    ]
    for options in others:
        assert np.abs(recommender.encode(["3"], options) - vector).max() > 1e-5
    null = RecommendOptions({"device": "d1", "load": 3, "pages": None}, AT)
    np.testing.assert_array_equal(recommender.encode(["3"], null), vector)
    # Values that the log never had are out of the vocabulary, as when a log is prepared.
    unknown = [
        recommender.encode(["3"], RecommendOptions({"device": d}, AT)) for d in ("new", 7, True)
    ]
    np.testing.assert_array_equal(unknown[0], unknown[1])
    np.testing.assert_array_equal(unknown[0], unknown[2])


@pytest.mark.parametrize(
    ("context", "words"),
    [
        ({"devise": "d1"}, "context has no 'devise', expected some of device, load, pages, "),
        ({"hour": 3}, "context 'hour' is taken from the time of asking; leave it out"),
        ({"rank": 1}, "context 'rank' is only known in training; leave it out"),
        ({"device": ["d1"]}, "context 'device' is \\['d1'\\]; expected a string"),
        ({"load": "3"}, "context 'load' is '3'; expected a number"),
        ({"load": 10**400}, "expected a number"),
        ({"pages": "p1"}, "context 'pages' is 'p1'; expected a list of strings"),
        ({"vector": [1.0, 2.0]}, "expected a list of 3 numbers"),
        ({"device": "\ud800"}, "expected a string"),
    ],
)
def test_a_context_that_the_model_does_not_know_is_refused(recommender, context, words):
    with pytest.raises(UserError, match=words) as caught:
        recommender.recommend("3", 5, RecommendOptions(context))
    assert str(caught.value).endswith((".", "?"))


def test_over_http(recommender):
    body = {"query_id": 3, "k": 4, "context": {"device": "d1"}, "at": AT.isoformat()}
    expected = recommender.recommend("3", 4, RecommendOptions({"device": "d1"}, AT))
    with running(create_app(Service.of(recommender))) as port:
        status, answer = recommend(port, body)
        assert status == 200
        assert [item["item_id"] for item in answer["items"]] == [i.item_id for i in expected.items]
        status, answer = recommend(port, {**body, "context": {"devise": "d1"}})
        assert status == 422
        assert "did you mean 'device'?" in answer["error"]
        assert recommend(port, {**body, "at": "noon"})[0] == 422
        assert recommend(port, {**body, "context": 3})[0] == 422


def test_a_model_without_context_takes_none(tmp_path, monkeypatch):
    config = write_prepared(tmp_path)
    export_untrained(config, monkeypatch)
    with pytest.raises(UserError, match="context has no 'device', this model takes none"):
        serving.load(config.bundle_dir).recommend("3", 5, RecommendOptions({"device": "d1"}))


@pytest.mark.parametrize("zone", ["UTC", "Europe/Paris", "Asia/Kathmandu", "America/New_York"])
def test_hours_and_weekdays_are_those_of_the_clocks(zone):
    random = np.random.default_rng(0)
    time = random.integers(0, 2_000_000_000, 500) * 1_000_000
    moments = [datetime.fromtimestamp(t / 1e6, ZoneInfo(zone)) for t in time.tolist()]
    for part, expected in (
        ("hour", [moment.hour for moment in moments]),
        ("weekday", [moment.weekday() for moment in moments]),
    ):
        feature = TimeFeature.model_validate(
            {"name": "t", "kind": "time", "dim": 4, "part": part, "zone": zone}
        )
        column = encode_time(feature, time_values(feature, np.append(time, NO_TIME), time[:1]))
        assert column.values.tolist() == expected
        assert column.lengths.tolist() == [1] * 500 + [0]


def test_recency_is_a_logarithm_of_seconds():
    feature = TimeFeature(name="since", kind="time", dim=4, part="recency")
    time = np.array([0, 86_400, 1, 5, 5]) * 1_000_000
    column = encode_time(feature, time_values(feature, time, np.array([0, 0, 0, NO_TIME, 10**9])))
    expected = [-1.0, 0.0, np.log(2) / np.log1p(86_400) - 1, 0.0, -1.0]
    np.testing.assert_allclose(column.values[:, 0], expected, atol=1e-6)
    assert column.present.tolist() == [True, True, True, False, True]
