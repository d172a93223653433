"""Kinds of features that `recsys init` makes of columns."""

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.logs.init_logs import init, log


def item_features(directory: Path, **columns: Any) -> dict[str, Any]:
    """Returns the item features that columns of 60 items become, by name."""
    items = {"item_id": list(range(60)), **columns}
    return {f.name: f for f in init(directory, log(), items).features.item}


def test_strings(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    words = [f"word{i}" for i in range(40)]
    found = item_features(
        tmp_path,
        brand=pa.array(["a", "b", None] * 20).dictionary_encode(),
        description=[" ".join(rng.choice(words, 8)) for _ in range(60)],
        url=[f"https://example.org/{i}" for i in range(60)],
        mostly_missing=["x", "y"] + [None] * 58,
        constant=["same"] * 60,
        nothing=pa.nulls(60, pa.string()),
        genres=["Drama|Comedy", "Drama", "Comedy|Crime"] * 20,
        year=[str(1990 + i % 20) for i in range(60)],
        width=[f"{i / 7:.3f}" for i in range(60)],
    )
    kinds = {name: feature.kind for name, feature in found.items()}
    assert kinds == {
        "item_id": "id",
        "brand": "categorical",
        "description": "text",
        "mostly_missing": "categorical",
        "genres": "multi_valued",
        "year": "categorical",
        "width": "numeric",
    }
    text = (tmp_path / "config.yaml").read_text()
    assert "url is left out: 60 values in 60 rows" in text
    assert "nothing is left out" in text
    assert "constant is left out" in text


def test_numbers_and_others(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(60, 12)).astype(np.float32)
    found = item_features(
        tmp_path,
        price=np.exp(3 * rng.normal(size=60)),
        height=pa.array([None if i % 2 else float(i % 7) for i in range(60)]),
        clicks=rng.integers(0, 50, 60),
        category_code=[i % 20 for i in range(60)],
        genre_id=pa.array([None if i % 9 == 0 else float(i % 5) for i in range(60)]),
        stock_id=range(1000, 1060),
        used=[True, False] * 30,
        embedding=pa.FixedSizeListArray.from_arrays(vectors.ravel(), 12),
        image=[[0.1] * 6, None] * 30,
        absent_at_times=pa.array([[0.1] * 6, None] * 30, pa.list_(pa.float32(), 6)),
        ragged=[[0.1] * (1 + i % 2) for i in range(60)],
        tags=[["x", "y"], ["y"], []] * 20,
        codes=[[1, 2], [2, 3, 4]] * 30,
        extra=[{"a": 1}] * 60,
        released=[dt.date(2020, 1, 1)] * 60,
        blob=[b"x"] * 60,
    )
    kinds = {name: feature.kind for name, feature in found.items() if name != "item_id"}
    assert kinds == {
        "price": "numeric",
        "height": "numeric",
        "clicks": "numeric",
        "category_code": "categorical",
        "genre_id": "categorical",
        "used": "categorical",
        "embedding": "vector",
        "image": "vector",
        "absent_at_times": "vector",
        "tags": "multi_valued",
        "codes": "multi_valued",
    }
    assert (found["price"].scaling, found["height"].scaling) == ("log", "standard")
    assert (found["embedding"].length, found["image"].length) == (12, 6)


def test_scaling_follows_the_shape_of_the_numbers(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    counts = np.exp(3 * rng.normal(size=60))
    found = item_features(
        tmp_path,
        height=rng.normal(170.5, 9, 60),
        counts=counts,
        shares=counts / counts.sum() / 100,
        mostly_zero=np.where(np.arange(60) < 55, 0.0, counts),
        balance=counts * np.where(np.arange(60) == counts.argmax(), -1, 0.1),
        percentage_done=100 - np.minimum(counts / 30, 99),
    )
    scalings = {name: f.scaling for name, f in found.items() if f.kind == "numeric"}
    assert scalings == {
        "height": "standard",
        "counts": "log",
        "shares": "quantile",
        "mostly_zero": "quantile",
        "balance": "quantile",
        "percentage_done": "quantile",
    }


def test_rare_tokens_share_a_row(tmp_path: Path) -> None:
    events = {name: np.tile(column, 3) for name, column in log(items=900).items()}
    tags = [["common", f"rare{i}", f"tag{i % 100}"] for i in range(900)]
    config = init(tmp_path, events, {"item_id": list(range(900)), "tags": tags})
    feature = config.features.item[1]
    assert feature.model_dump(exclude_defaults=True) == {
        "name": "tags",
        "dim": feature.dim,
        "min_count": 2,
    }
    assert feature.dim == 20  # By the 101 tags that are left, not by all 1,001.


ODD_NAMES = ["yes", "null", "1.5", "a: b", "#x", "a b", "ünï", "a.b", "- a", "2020-01-01", "{a}"]


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)
        | st.sampled_from(ODD_NAMES),
        min_size=1,
        max_size=4,
        unique=True,
    )
)
def test_any_column_name_survives(tmp_path: Path, names: list[str]) -> None:
    names = [name for name in names if name != "item_id"]
    columns = {name: ["x", "y", "z"] * 20 for name in names}
    config = init(tmp_path, log(), {"item_id": list(range(60)), **columns})
    assert [feature.name for feature in config.features.item] == ["item_id", *names]
    document = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert [entry["name"] for entry in document["features"]["item"]] == ["item_id", *names]


def test_titles_that_repeat_are_text_and_other_names_are_not(tmp_path: Path) -> None:
    values = [f"red thing {i % 150}" for i in range(600)]
    items = {"item_id": np.arange(600), "productTitle": values, "brand_name": values}
    config = init(tmp_path, log(items=600), items)
    kinds = {feature.name: feature.kind for feature in config.features.item}
    assert kinds == {"item_id": "id", "productTitle": "text", "brand_name": "categorical"}


def test_strings_of_several_values_are_split_at_their_delimiter(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    moods, number = ["Sci-Fi", "Slow burn", "Noir", "Wild West", "Heist"], range(240)
    some = [rng.choice(moods, rng.integers(1, 4), replace=False) for _ in number]
    cities = [f"City {i % 90}, State {i % 12}, {['US', 'CA'][i % 2]}" for i in number]
    items = {
        "item_id": number,
        "moods": [" | ".join(each) for each in some],
        "more_moods": [", ".join(each) for each in some],
        "path": [f"Shop > Shelf {i % 5} > Box {i % 30}" for i in number],
        "made_in": cities,
        "birthplace": [f"Town {i}, {['France', 'Peru'][i % 2]}" for i in number],
        "author": [f"Name{i // 2}, First{i // 2 % 60}" for i in number],
        "title": [f"Red, {i}|Blue" for i in number],
        "released": [f"{1 + i % 28}/{1 + i % 12}/{2000 + i % 5}" for i in number],
        "url": [f"https://shop.example/{moods[i % 5]}/{i % 7}" for i in number],
        "printed": [str(list(each)) for each in some],
        "size": [["S/M", "M/L", "one size"][i % 3] for i in number],
    }
    config = init(tmp_path, log(items=240), items)
    found = {f.name: getattr(f, "delimiter", None) for f in config.features.item}
    assert {name: sign for name, sign in found.items() if sign is not None} == {
        "moods": "|",
        "more_moods": ",",
        "path": ">",
        "made_in": ",",
        "birthplace": ",",
    }
    kinds = {f.name: f.kind for f in config.features.item}
    assert (kinds["author"], kinds["title"], kinds["size"]) == (
        "categorical",
        "text",
        "categorical",
    )
    assert 'delimiter: "|"' in (tmp_path / "config.yaml").read_text()
