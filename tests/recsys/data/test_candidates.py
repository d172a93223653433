"""Candidates that a rank encodes, and those of them that are no negatives of an example."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from feature_store.core.columns import Jagged
from feature_store.core.errors import UserError
from recsys.data import candidates
from recsys.data.builder import BatchBuilder
from recsys.data.candidates import (
    CandidateBuilder,
    accidental_hits,
    accidental_hits_in_corpus,
    check_candidates,
)
from recsys.losses import softmax as losses
from tests.support.small_batches import ITEMS, NEVER_TRAINED, QUERIES, config, local_batch, prepared

MODES = {
    "in_batch": {},
    "mixed": {"candidates": {"kind": "mixed", "uniform": 11}},
    "corpus": {"candidates": {"kind": "corpus"}},
}


def candidates_of(step, size, world_size, **loss):
    """Returns the candidates of every rank, and all ranks' columns."""
    builder = CandidateBuilder(prepared(), config(loss=loss))
    parts = [
        builder.build(local_batch(step, size, rank, world_size), rank, world_size)
        for rank in range(world_size)
    ]
    return parts, np.concatenate([part.items for part in parts])


def naive_accidental_hits(step, size, columns, targets, masked):
    """Returns pairs of an example and a column, by the definition of `masked`."""
    data, whole = prepared(), local_batch(step, size)
    known = data.query_state.train
    pairs = set()
    for row in range(size):
        bags = {
            "known": known.values[known.offsets[whole.query[row]] :][:4],
            "history": [*whole.history.values[3 * row : 3 * row + 3], whole.item[row]],
            "target": [whole.item[row]],
        }
        others = {int(item) for item in bags[masked]}
        pairs |= {
            (row, column)
            for column, item in enumerate(columns.tolist())
            if column != targets[row] and (item in others or item < 0)
        }
    return pairs


@pytest.mark.parametrize("masked", ["known", "history", "target"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("size", "world_size"), [(8, 1), (8, 2), (7, 3), (2, 4)])
def test_targets_and_accidental_hits_equal_a_naive_loop(mode, masked, size, world_size):
    for step in range(5):
        parts, columns = candidates_of(step, size, world_size, masked=masked, **MODES[mode])
        rows = -(-size // world_size)
        assert len({len(part.items) for part in parts}) == 1
        targets = np.concatenate([part.targets for part in parts])[:size]
        assert np.array_equal(columns[targets], local_batch(step, size).item)
        found = [
            (rank * rows + row, column)
            for rank, part in enumerate(parts)
            for row, column in part.accidental_hits.tolist()
        ]
        found = [(row, column) for row, column in found if row < size]
        if masked != "history":  # A history may hold an item twice, and then there are two.
            assert len(found) == len(set(found))
        assert set(found) == naive_accidental_hits(step, size, columns, targets, masked)


@pytest.mark.parametrize("mode", MODES)
def test_the_items_of_a_step_are_the_same_for_any_number_of_ranks(mode):
    one, _ = candidates_of(3, 7, 1, **MODES[mode])
    expected = Counter(zip(one[0].keys.tolist(), one[0].items.tolist(), strict=True))
    for world_size in (2, 3, 5):
        parts, columns = candidates_of(3, 7, world_size, **MODES[mode])
        keys = np.concatenate([part.keys for part in parts])
        pairs = zip(keys[columns >= 0].tolist(), columns[columns >= 0].tolist(), strict=True)
        assert Counter(pairs) == expected
        assert {part.uniform for part in parts} == {one[0].uniform}


def test_uniform_negatives_are_uniform_over_the_corpus_and_differ_from_step_to_step():
    data = prepared()
    data.is_current_item[[4, 7]] = False
    builder = CandidateBuilder(data, config(loss=MODES["mixed"]))
    drawn = [builder.uniform_negatives(step) for step in range(3000)]
    counts = np.bincount(np.concatenate(drawn), minlength=ITEMS)
    assert not counts[[4, 7]].any()
    assert chisquare(np.delete(counts, [4, 7])).pvalue > 0.001
    assert len({tuple(items) for items in drawn}) == 3000


def test_candidates_are_drawn_as_the_mixture_says():
    random = np.random.default_rng(0)
    q = np.r_[0.4, 0.2, np.full(NEVER_TRAINED - 2, 0.4 / (NEVER_TRAINED - 2)), np.zeros(5)]
    builder = CandidateBuilder(prepared(), config(loss=MODES["mixed"]))
    counts = np.zeros(ITEMS)
    for step in range(1500):
        item = random.choice(ITEMS, 8, p=q)
        found = builder.build(replace(local_batch(step), item=item, global_items=item), 0, 1)
        counts += np.bincount(found.items, minlength=ITEMS)
    log_q = torch.from_numpy(np.log(np.maximum(q, 1e-300)))
    expected = losses.log_mixture(log_q, uniform=torch.tensor(found.uniform)).exp().numpy()
    assert chisquare(counts, expected / expected.sum() * counts.sum()).pvalue > 0.001


def test_without_an_exchange_a_ranks_columns_are_its_own():
    for mode in ("in_batch", "mixed"):
        keys = {"kind": mode, **MODES[mode].get("candidates", {}), "across_ranks": False}
        parts, _ = candidates_of(2, 8, 2, candidates=keys)
        for rank, part in enumerate(parts):
            whole = local_batch(2, 8, rank, 2)
            assert np.array_equal(part.items[part.targets], whole.item)
            assert part.accidental_hits[:, 1].max(initial=0) < len(part.items)
        alone = replace(local_batch(2, 8, 1, 2), global_items=local_batch(2, 8, 1, 2).item)
        builder = CandidateBuilder(
            prepared(), config(loss={"candidates": {"kind": "in_batch", "across_ranks": False}})
        )
        same = builder.build(alone, 0, 1)
        if mode == "in_batch":
            assert np.array_equal(same.accidental_hits, parts[1].accidental_hits)


@pytest.mark.parametrize("mode", MODES)
def test_ids_are_hidden_alike_for_any_number_of_ranks_and_as_often_as_asked(mode):
    builder = BatchBuilder(prepared(), config(loss={"id_dropout": 0.3, **MODES[mode]}))
    shown = {1: [], 2: []}
    for step in range(200):
        for world_size, seen in shown.items():
            of_step = set()
            for rank in range(world_size):
                host = builder.training(local_batch(step, 8, rank, world_size), rank, world_size)
                items = host.candidates
                keys = builder.candidates.build(
                    local_batch(step, 8, rank, world_size), rank, world_size
                ).keys
                lengths = host.lengths[0, : len(items)]
                has_id = (items >= 0) & (items < NEVER_TRAINED)
                of_step |= set(zip(keys[has_id], lengths[has_id], strict=True))
            seen.append(of_step)
    assert shown[1] == shown[2]
    lengths_of = {False: [], True: []}
    for key, length in (pair for of_step in shown[1] for pair in of_step):
        lengths_of[key < 0].append(length)
    for uniform, lengths in lengths_of.items():
        if lengths:
            assert np.mean(lengths) == pytest.approx(0.7, abs=0.05), uniform


def test_a_small_corpus_leaves_rows_for_all_queries():
    builder = BatchBuilder(prepared(), config(ssl={"method": "none"}, loss=MODES["corpus"]))
    host = builder.training(local_batch(1, 50), 0, 1)
    assert len(host.item_dense) >= 50
    countries = host.lengths[-1]
    assert countries[:50].all()
    assert not countries[50:].any()


def test_a_corpus_that_is_too_large_is_an_error_that_names_the_way_out(monkeypatch):
    monkeypatch.setattr(candidates, "CORPUS_LIMIT", ITEMS - 1)
    settings = config(loss=MODES["corpus"])
    with pytest.raises(
        UserError, match=r"all 30 items, and 29 is the limit.*candidates: .kind: mixed"
    ):
        check_candidates(prepared(), settings.loss)
    with pytest.raises(UserError, match="is the limit"):
        BatchBuilder(prepared(), settings)
    check_candidates(prepared(), config(loss=MODES["mixed"]).loss)


def test_accidental_hits_equal_a_naive_loop():
    rng = np.random.default_rng(1)
    known = prepared().query_state.train
    query, columns = rng.integers(0, QUERIES, 10), rng.integers(0, NEVER_TRAINED, 20)
    targets = rng.choice(20, 10, replace=False)
    slots = np.full(ITEMS, -1, np.int32)
    found = [tuple(hit) for hit in accidental_hits(known, query, columns, targets, slots)]
    assert (slots == -1).all()
    expected = {
        (row, column)
        for row in range(10)
        for column in range(20)
        if column != targets[row] and columns[column] in known.values[4 * query[row] :][:4]
    }
    assert set(found) == expected
    assert len(found) == len(expected)


@given(
    st.lists(st.lists(st.integers(0, 9), max_size=5, unique=True), min_size=1, max_size=5),
    st.permutations(range(10)),
    st.data(),
)
@settings(max_examples=100, deadline=None)
def test_accidental_hits_in_the_corpus_are_those_among_its_columns(bags, columns, data):
    columns = np.array(columns[:7])
    lengths = np.array([len(bag) for bag in bags])
    masked = Jagged.from_lengths(np.array([i for bag in bags for i in bag], np.int64), lengths)
    targets = np.array(
        data.draw(st.lists(st.integers(0, 6), min_size=len(bags), max_size=len(bags)))
    )
    column_of = np.full(10, -1)
    column_of[columns] = np.arange(7)
    found = accidental_hits_in_corpus(masked, np.arange(len(bags)), column_of, targets)
    slots = np.full(10, -1, np.int32)
    expected = accidental_hits(masked, np.arange(len(bags)), columns, targets, slots)
    assert set(map(tuple, found.tolist())) == set(map(tuple, expected.tolist()))
