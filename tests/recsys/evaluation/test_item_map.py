"""The item map: what features tell of the vectors' clusters, numbers, dates and years."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from feature_store.core.columns import Dense, Jagged
from feature_store.encoding.scaling import Moments, Quantiles, Standardisation, raw_numbers
from feature_store.kinds import CategoricalFeature, DateFeature, NumericFeature
from recsys.evaluation.item_map import _features, _information
from recsys.reports.item_map import FREQUENCY, SLICE, colours_of, map_section
from recsys.reports.run.run_data import RunData

ITEMS, CLUSTERS = 400, 8


def vocabulary(values, first_row=1):
    return SimpleNamespace(first_row=first_row, tokens=pa.array([str(value) for value in values]))


def encoder_of(vocabularies, scalings):
    return SimpleNamespace(
        scalings=scalings, items=None, vocabulary=lambda feature: vocabularies[feature.name]
    )


@pytest.fixture(scope="module")
def made():
    """Returns vectors in clusters, features that tell nothing, something and much, and numbers."""
    random = np.random.default_rng(0)
    cluster = np.arange(ITEMS) % CLUSTERS
    vectors = (np.eye(CLUSTERS)[cluster] + random.normal(0, 0.05, (ITEMS, CLUSTERS))).astype("f4")
    by_number = cluster * 10.0 + random.uniform(0, 5, ITEMS)
    scaling = Standardisation.from_moments(Moments.of(by_number[:, None], np.ones(ITEMS, bool)))
    scaled = scaling.scale(by_number[:, None]).astype(np.float32)
    columns = {
        "noise": Jagged.from_lengths(random.integers(1, 5, ITEMS), np.ones(ITEMS, int)),
        "own": Jagged.from_lengths(np.arange(ITEMS), np.ones(ITEMS, int)),
        "half": Jagged.from_lengths(1 + cluster // 4, np.ones(ITEMS, int)),
        "size": Dense(scaled, np.arange(ITEMS) > 0),
    }
    kinds = {"noise": 5, "own": ITEMS, "half": 3}
    features = [
        *(CategoricalFeature(name=name, dim=4) for name in kinds),
        NumericFeature(name="size", dim=4),
    ]
    names = [
        SimpleNamespace(first_row=0, tokens=pa.array(map(str, range(n)))) for n in kinds.values()
    ]
    encoder = encoder_of(dict(zip(kinds, names, strict=True)), {"size": scaling})
    prepared = SimpleNamespace(
        item_encoder=encoder, item_columns=columns, features=SimpleNamespace(item=features)
    )
    return prepared, vectors, by_number


def test_a_feature_that_is_chance_tells_nothing_however_many_values_it_has(made):
    prepared, vectors, _ = made
    tells = _information(_features(prepared, np.arange(ITEMS)), vectors)
    assert abs(tells["noise"]) < 0.02
    assert abs(tells["own"]) < 0.02  # Each value is of one item, and so decides its cluster.
    assert 0.2 < tells["half"] < tells["size"]
    assert _information({}, vectors) == {}


def test_numbers_are_shown_as_they_are_in_the_log(made):
    prepared, _, by_number = made
    shown = _features(prepared, np.arange(ITEMS))["size"].shown
    assert shown[0].as_py() is None
    assert shown.to_pylist()[1:] == pytest.approx(by_number[1:], abs=1e-3)


@pytest.mark.parametrize("scaling", ["log", "quantile"])
def test_scaled_numbers_are_restored(scaling):
    raw = np.array([1.0, 5.0, 70.0, 900.0])
    feature = NumericFeature(name="price", dim=4, scaling=scaling)
    if scaling == "log":
        fitted = Standardisation.from_moments(Moments.of(np.log1p(raw)[:, None], raw > 0))
        scaled = fitted.scale(np.log1p(raw)[:, None])
    else:
        fitted = Quantiles(raw, np.linspace(-1, 1, 4), 0)
        scaled = fitted.scale(raw[:, None])
    column = Dense(scaled.astype(np.float32), np.ones(4, bool))
    assert raw_numbers(feature, fitted, column) == pytest.approx(raw, rel=1e-4)


def test_dates_are_times_and_years_numbers_but_codes_stay_names():
    days = Standardisation(np.array([10_000.0], "f4"), np.array([100.0], "f4"))
    years, codes = vocabulary(range(1990, 2000)), vocabulary(range(4, 14))
    rows = Jagged.from_lengths(np.arange(10), np.ones(10, int))  # Row 0 is that of rare values.
    changed = SimpleNamespace(
        item_columns={
            "seen": Dense(np.zeros((10, 1), np.float32), np.ones(10, bool)),
            "year": rows,
            "code": rows,
        },
        item_encoder=encoder_of({"year": years, "code": codes}, {"seen": days}),
        features=SimpleNamespace(
            item=[
                DateFeature(name="seen", dim=4),
                CategoricalFeature(name="year", dim=4),
                CategoricalFeature(name="code", dim=4),
            ]
        ),
    )
    shown = {name: of.shown for name, of in _features(changed, np.arange(10)).items()}
    assert str(shown["seen"][0].as_py().date()) == "1997-05-19"
    assert shown["year"].to_pylist() == [None, *(1990.0 + n for n in range(9))]
    assert pa.types.is_string(shown["code"].type)


def test_the_map_begins_with_what_tells_most_and_finds_items(evaluated):
    run = evaluated.store().data(evaluated.run_ids[1])
    items = run.items
    assert items is not None
    tells = items.information
    assert items.features == sorted(tells, key=lambda name: -tells[name])
    assert colours_of(items) == [*items.features, SLICE, FREQUENCY]
    chart = map_section(run, [FREQUENCY], "i1").parts[1]
    assert chart.plot.colours.title == FREQUENCY
    (shaded, rings) = chart.plot.series
    assert rings.kind == "rings"
    assert "i1" in rings.keys
    at = shaded.keys.index("i1")
    known = dict(
        zip(items.names["item_id"].to_pylist(), items.names["frequency"].to_pylist(), strict=True)
    )
    assert shaded.values[at] == max(1, known["i1"])
    named = map_section(run, [SLICE]).parts[1].plot
    assert named.colours is None
    assert not any(series.values for series in named.series)


def test_a_run_without_a_map_says_so():
    section = map_section(RunData("run", "id", lambda name: None))
    assert "kept no map" in section.parts[0].text
