"""`recsys init` sees that queries are items, and is not taken in by numbers that look like it."""

from pathlib import Path

import numpy as np
import pytest

from tests.support.logs.init_logs import init, said

PAGES = 80


def links() -> dict[str, object]:
    random = np.random.default_rng(0)
    source, target = random.integers(0, PAGES, (2, 900))
    return {"query_id": source, "item_id": target}


def pages(name: str, shift: int = 0) -> dict[str, object]:
    number = np.arange(PAGES)
    return {
        name: number,
        "topic": [f"t{(i + shift) % 7}" for i in number],
        "words": [[f"w{(i + shift) % 9}", f"v{i % 5}"] for i in number],
        "length": np.random.default_rng(shift).normal(size=PAGES),
    }


def named(columns: dict[str, object]) -> dict[str, object]:
    """Returns columns whose ids are names."""
    return {
        key: [f"page {i}" for i in values] if key.endswith("_id") else values
        for key, values in columns.items()
    }


def shared(config) -> dict[str, str]:
    return {f.name: f.shared_table for f in config.features.query if f.shared_table}


EVERYTHING = {"query_id": "item.item_id", "topic": "item.topic", "words": "item.words"}


@pytest.mark.parametrize("kind", [dict, named], ids=["numbers", "names"])
def test_pages_share_the_tables_of_the_pages_they_link_to(tmp_path: Path, kind) -> None:
    config = init(tmp_path, kind(links()), kind(pages("item_id")), kind(pages("query_id")))
    assert shared(config) == EVERYTHING
    owners = {feature.name: feature.dim for feature in config.features.item}
    for feature in config.features.query:
        if feature.shared_table is not None:
            assert feature.dim == owners[feature.name.replace("query_id", "item_id")]


def test_names_alone_share_their_ids(tmp_path: Path) -> None:
    assert shared(init(tmp_path, named(links()))) == {"query_id": "item.item_id"}


@pytest.mark.parametrize("form", ["ID{:05d}", "2024-{:03d}", "{:08d}-0000-0000", "x{}"])
def test_ids_that_differ_in_numbers_alone_are_no_evidence(tmp_path: Path, form: str) -> None:
    events = {name: [form.format(i) for i in values] for name, values in links().items()}
    assert shared(init(tmp_path, events)) == {}


def test_values_by_a_long_period_are_no_evidence(tmp_path: Path) -> None:
    items, queries = (
        {name: np.arange(PAGES), "day": [f"2024-01-{1 + i % 28:02d}" for i in range(PAGES)]}
        for name in ("item_id", "query_id")
    )
    assert shared(init(tmp_path, links(), items, queries)) == {}
    items["day"] = [f"2024-01-{1 + i % 50:02d}" for i in range(PAGES)]
    assert shared(init(tmp_path, links(), items, {**queries, "day": items["day"]})) == {}


def test_numbers_of_other_things_are_not_taken_for_items(tmp_path: Path) -> None:
    config = init(tmp_path, links(), pages("item_id"), pages("query_id", shift=1))
    assert shared(config) == {}
    assert shared(init(tmp_path, links())) == {}


def test_names_of_other_things_are_not_items(tmp_path: Path) -> None:
    events = named(links())
    events["query_id"] = [f"reader {i}" for i in events["query_id"]]
    assert shared(init(tmp_path, events, named(pages("item_id")))) == {}


USERS, FILMS = 60, 40


def numbered(name: str, rows: int, **columns: object) -> dict[str, object]:
    return {name: np.arange(1, rows + 1), **columns}


def views() -> dict[str, object]:
    random = np.random.default_rng(1)
    return {
        "query_id": random.integers(1, USERS + 1, 700),
        "item_id": random.integers(1, FILMS + 1, 700),
    }


def by_formula(rows: int) -> dict[str, object]:
    """Returns columns that follow from the row's number."""
    row = range(1, rows + 1)
    return {
        "pandas_row": list(row),
        "created": [1_600_000_000 + 3600 * i for i in row],
        "country": [("US", "DE", "FR")[i % 3] for i in row],
        "tier": ["old" if i <= 20 else "new" for i in row],
        "code": [f"#{i:05d}" for i in row],
        "source": ["import"] * rows,
        "__index_level_0__": [i - 1 for i in row],
    }


def test_numbers_of_films_and_of_users_have_nothing_in_common(tmp_path: Path) -> None:
    """Tests that equal numbers, and what only follows from them, are no evidence."""
    assert shared(init(tmp_path, views())) == {}
    films, users = (numbered(n, r) for n, r in (("item_id", FILMS), ("query_id", USERS)))
    assert shared(init(tmp_path, views(), films, users)) == {}
    for name in by_formula(FILMS):
        tables = (
            numbered(id_name, rows, **{name: by_formula(rows)[name]})
            for id_name, rows in (("item_id", FILMS), ("query_id", USERS))
        )
        assert shared(init(tmp_path, views(), *tables)) == {}, name
    tables = (
        numbered(id_name, rows, **by_formula(rows))
        for id_name, rows in (("item_id", FILMS), ("query_id", USERS))
    )
    assert shared(init(tmp_path, views(), *tables)) == {}


def test_a_flag_that_nearly_all_rows_have_is_no_evidence(tmp_path: Path) -> None:
    films, users = (
        numbered(name, rows, active=["no" if i == 17 else "yes" for i in range(rows)])
        for name, rows in (("item_id", FILMS), ("query_id", USERS))
    )
    assert shared(init(tmp_path, views(), films, users)) == {}


def test_letters_are_no_names(tmp_path: Path) -> None:
    events = {key: [chr(97 + i % 26) for i in column] for key, column in views().items()}
    assert shared(init(tmp_path, events)) == {}


def test_sharing_is_said(tmp_path: Path) -> None:
    _, text = said(tmp_path, links(), pages("item_id"), pages("query_id"))
    assert "queries are taken for items" in text
    assert "100 % of query ids are items, with the same" in text
