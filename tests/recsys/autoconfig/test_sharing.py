"""`recsys init` sees that queries are items, and is not taken in by numbers that look like it."""

from pathlib import Path

import numpy as np
import pytest

from tests.support.init_logs import init

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


def test_numbers_of_other_things_are_not_taken_for_items(tmp_path: Path) -> None:
    config = init(tmp_path, links(), pages("item_id"), pages("query_id", shift=1))
    assert shared(config) == {}
    assert shared(init(tmp_path, links())) == {}


def test_names_of_other_things_are_not_items(tmp_path: Path) -> None:
    events = named(links())
    events["query_id"] = [f"reader {i}" for i in events["query_id"]]
    assert shared(init(tmp_path, events, named(pages("item_id")))) == {}
