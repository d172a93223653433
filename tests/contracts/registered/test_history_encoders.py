"""Contract of the history encoders: a new one is tested by being listed in `ENCODERS`.

That it is exported as it is trained is tested in tests/serving/exporting/test_variants.py.
"""

from typing import Any

import numpy as np
import pytest
import torch

from recsys.config.model import HISTORY_SETTINGS
from recsys.model.history import ENCODERS
from recsys.model.history.histories import Histories
from tests.support.histories import ITEMS, inputs, jagged, joined
from tests.support.parity import Case, Trained, assert_same, train_on

KINDS = [*HISTORY_SETTINGS]
NO_DROPOUT: dict[str, dict[str, Any]] = {
    kind: {"dropout": 0.0} if "dropout" in settings.model_fields else {}
    for kind, settings in HISTORY_SETTINGS.items()
}


def case(kind: str) -> Case:
    return Case("row_wise", {"model": {"history": [{"kind": kind, **NO_DROPOUT[kind]}]}})


@pytest.fixture(scope="module")
def trained() -> tuple[dict[str, Trained], dict[str, Trained]]:
    """Trains each encoder on one rank, and on two."""
    one, two = (train_on(ranks, [case(kind) for kind in KINDS]) for ranks in (1, 2))
    return dict(zip(KINDS, one, strict=True)), dict(zip(KINDS, two, strict=True))


def test_every_kind_has_an_encoder() -> None:
    assert set(ENCODERS) == set(HISTORY_SETTINGS.values())


@pytest.mark.parametrize("kind", KINDS)
def test_two_ranks_equal_one(trained, kind: str) -> None:
    one, two = trained
    assert_same(two[kind], one[kind])
    assert one[kind].losses[-1]["main"] < one[kind].losses[0]["main"]


@pytest.mark.parametrize("kind", KINDS)
def test_its_width_is_what_it_says(kind: str) -> None:
    table, default = inputs()
    items, offsets = jagged([3, 0])
    encoders = joined(kind)
    assert encoders(table, Histories(items, offsets), default).shape == (2, encoders.dim)


@pytest.mark.parametrize("kind", KINDS)
def test_a_later_item_changes_no_earlier_state(kind: str) -> None:
    model = joined(kind)
    table, default = inputs()
    items, offsets = jagged([6, 9])
    every = torch.arange(15)
    before = model(table, Histories(items, offsets, every), default)
    for changed in range(15):
        other = items.clone()
        other[changed] = (items[changed] + 1) % ITEMS
        after = model(table, Histories(other, offsets, every), default)
        differs = ~torch.isclose(before, after, atol=1e-6).all(dim=1)
        end = 6 if changed < 6 else 15
        assert differs[changed]
        assert not differs[:changed].any()
        assert not differs[end:].any()


@pytest.mark.parametrize("kinds", [*((kind,) for kind in KINDS), tuple(KINDS)])
def test_an_example_that_reads_a_part_is_one_with_that_part_as_its_history(
    kinds: tuple[str, ...],
) -> None:
    model = joined(*kinds)
    table, default = inputs()
    items, offsets = jagged([6, 0, 9])
    read = torch.tensor([2, -1, 14, 0, 6, 2, 5])
    parts_read = model(table, Histories(items, offsets, read), default)
    starts = [0, 0, 6, 0, 6, 0, 0]
    parts = [items[start : end + 1] for start, end in zip(starts, read.tolist(), strict=True)]
    parts[1] = items[:0]
    alone = torch.tensor([0, *np.cumsum([len(part) for part in parts])])
    whole = model(table, Histories(torch.cat(parts), alone), default)
    torch.testing.assert_close(parts_read, whole, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_and_other_histories_have_no_influence(kind: str) -> None:
    model = joined(kind)
    table, default = inputs()
    items, offsets = jagged([4, 0, 2])
    expected = model(table, Histories(items, offsets), default)
    padded = torch.cat([table, torch.full((5, table.shape[1]), 1e3)])
    more = Histories(
        torch.cat([items, torch.full((7,), len(table) + 2)]),
        torch.cat([offsets, torch.tensor([len(items) + 7])]),
    )
    torch.testing.assert_close(model(padded, more, default)[:3], expected)


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_history_is_finite_and_trains_every_parameter(kind: str) -> None:
    model = joined(kind)
    table, default = inputs()
    empty = Histories(torch.zeros(0, dtype=torch.long), torch.zeros(4, dtype=torch.long))
    encoded = model(table, empty, default.requires_grad_())
    assert encoded.isfinite().all()
    assert (encoded == encoded[0]).all()
    encoded.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
