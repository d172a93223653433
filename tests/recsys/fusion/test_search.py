"""The search finds what helps, leaves out what does not, and takes nothing from a slice."""

import numpy as np
import pytest
import torch

from recsys.evaluation.metrics import SLICES
from recsys.evaluation.results import TradeOff
from recsys.fusion.at_loss import tail_at_loss
from recsys.fusion.curve import DIALS, trade_off
from recsys.fusion.sample import Sample
from recsys.fusion.search import Search
from recsys.fusion.weights import Weights

QUERIES, CANDIDATES = 400, 120


def sample(**parts: np.ndarray) -> Sample:
    """Returns a sample whose queries each look for candidate 0 or 1, the second one rare."""
    random = np.random.default_rng(0)
    noise = {name: random.random((QUERIES, CANDIDATES)) for name in ("model", "noise")}
    scores = {"model": noise["model"], "noise": noise["noise"], **parts}
    scores |= {name: np.zeros((QUERIES, CANDIDATES)) for name in ("trend", "dial")}
    names = ("model", *(n for n in scores if n not in ("model", "trend", "dial")), "trend", "dial")
    values = torch.from_numpy(np.stack([scores[name] for name in names]).astype(np.float32))
    target = np.arange(QUERIES) % 2
    return Sample(
        parts=names,
        values=values,
        rarity=torch.zeros(QUERIES, CANDIDATES),
        candidates=torch.arange(CANDIDATES).expand(QUERIES, -1),
        query=torch.arange(QUERIES),
        position=torch.from_numpy(target),
        item=target,
    )


def slices() -> dict[str, np.ndarray]:
    of_item = {name: np.zeros(CANDIDATES, bool) for name in SLICES}
    of_item["head"][0] = of_item["tail"][1] = True
    return of_item


def knows(candidate: int, score: float = 1.0) -> np.ndarray:
    scores = np.zeros((QUERIES, CANDIDATES))
    scores[np.arange(QUERIES) % 2 == candidate, candidate] = score
    return scores


def test_a_channel_that_knows_gets_weight_and_noise_gets_none():
    search = Search(sample(expert=knows(0) + knows(1)), slices(), tail_weight=1.0)
    weights = search.best()
    assert weights.channels.keys() == {"expert"}
    assert search.outcome(weights).hits.all()
    assert not search.outcome(Weights()).hits.all()


def test_where_channels_add_nothing_the_model_ranks_alone():
    good = 0.1 * np.random.default_rng(1).random((QUERIES, CANDIDATES)) + knows(0) + knows(1)
    assert Search(sample(model=good), slices(), tail_weight=1.0).best() == Weights()


def test_a_model_that_only_harms_gets_no_weight():
    misled = np.random.default_rng(1).random((QUERIES, CANDIDATES)) - 3 * (knows(0) + knows(1))
    found = Search(sample(model=misled, expert=knows(0) + knows(1)), slices(), tail_weight=1.0)
    assert found.outcome(found.best()).hits.all()


@pytest.mark.parametrize("tail_weight", [0.0, 1.0])
def test_no_slice_loses_significantly(tail_weight):
    """Tests a channel that finds the rare item, and hides the frequent one when it weighs much."""
    model = 0.3 * np.random.default_rng(1).random((QUERIES, CANDIDATES)) + knows(0, 0.25)
    hides = knows(1, 0.6)
    hides[:, 2:80] += 0.5 * (np.arange(QUERIES) % 2 == 0)[:, None]
    search = Search(sample(model=model, one_sided=hides), slices(), tail_weight)
    best = search.outcome(search.best())
    assert best.excess == 0
    for found, alone in zip(best.recall, search.outcome(Weights()).recall, strict=True):
        assert found >= alone * 0.98
    greedy = search.outcome(Weights(channels={"one_sided": 1.2}))
    assert greedy.excess > 0


def test_found_counts_as_a_sort_does():
    drawn = sample(expert=knows(1))
    weights = Weights(model=0.7, channels={"expert": 0.3, "noise": 0.2})
    scores = 0.7 * drawn.values[0] + 0.2 * drawn.values[1] + 0.3 * drawn.values[2]
    rank = (scores > scores[drawn.query, drawn.position][:, None]).sum(dim=1).numpy()
    found = drawn.found(weights, (10, 50))
    assert found.tolist() == [(rank < 10).tolist(), (rank < 50).tolist()]


def test_equal_scores_are_not_found():
    drawn = sample()
    assert not drawn.found(Weights(model=0.0), (10, 50)).any()
    assert drawn.found(Weights(model=0.0), (10, CANDIDATES))[1].all()


def test_the_curve_holds_the_chosen_dial_and_every_slice():
    weights = Weights(dial=0.25)
    points = trade_off(sample(), slices(), weights)
    assert [point.dial for point in points] == sorted({*DIALS, 0.25})
    assert points[0].slices["cold"] is None
    assert points[0].slices["head"] == points[-1].slices["head"]  # Their dial is 0.


def curve(*points: tuple[float, float | None]) -> list[TradeOff]:
    """Returns a curve of overall and tail recall."""
    return [
        TradeOff(
            dial=number, recall={"recall@10": 0.0, "recall@50": overall}, slices={"tail": tail}
        )
        for number, (overall, tail) in enumerate(points)
    ]


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(0.50, 0.1), (0.49, 0.3)], 0.2),  # Half of the way costs 1 %.
        ([(0.48, 0.1), (0.50, 0.2), (0.495, 0.3), (0.40, 0.9)], 0.3),
        ([(0.50, 0.1), (0.50, 0.4)], 0.4),  # The dial costs nothing.
        ([(0.50, None), (0.40, None)], None),
        ([], None),
    ],
)
def test_the_tail_is_read_where_one_percent_of_the_overall_recall_is_lost(points, expected):
    found = tail_at_loss(curve(*points))
    assert found == (expected if expected is None else pytest.approx(expected))


def test_no_slice_loses_against_a_part_that_is_a_baseline():
    """Tests that the head that item-item weights find counts, though the model alone lacks it."""
    drawn = sample(model=knows(1), expert=knows(0))
    assert Search(drawn, slices(), tail_weight=1.0).outcome(Weights()).excess == 0
    search = Search(drawn, slices(), tail_weight=1.0, baselines=["expert"])
    assert search.outcome(Weights()).excess > 0
    best = search.outcome(search.best())
    assert best.excess == 0
    assert best.hits.all()


def test_a_channel_that_counts_only_with_a_stronger_dial_is_found():
    """Tests a channel that names popular items first, which hide what it knows until these sink."""
    random = np.random.default_rng(1)
    popular = np.zeros((QUERIES, CANDIDATES))
    popular[:, 2:70] = 1 + 0.1 * random.random((QUERIES, 68))
    hidden = 0.8 * popular + knows(0, 0.7) + knows(1, 0.7)
    drawn = sample(model=0.05 * random.random((QUERIES, CANDIDATES)), linear=hidden / hidden.max())
    drawn.values[drawn.parts.index("dial")] = torch.from_numpy(popular.astype(np.float32))
    search = Search(drawn, slices(), tail_weight=0.0)
    best = search.best()
    assert search.outcome(best).hits.all()
    assert best.dial > 0


def either_or(queries: np.ndarray) -> np.ndarray:
    """Returns scores that find the targets of some queries, and hide those of all others."""
    scores = np.zeros((QUERIES, CANDIDATES))
    scores[:, 2:80] = ~queries[:, None]
    scores[np.arange(QUERIES), np.arange(QUERIES) % 2] = queries
    return scores


def knows_none() -> np.ndarray:
    return either_or(np.zeros(QUERIES, bool)) * 0.01


QUERY = np.arange(QUERIES)
IS_FREQUENT = QUERY % 2 == 0


def test_overall_recall_comes_before_slices_that_no_ranking_has_at_once():
    """Tests two baselines: one is better overall, the other one by far in the tail."""
    popular = either_or(IS_FREQUENT & (QUERY < 340))  # 170 of 200.
    similar = either_or(IS_FREQUENT & (QUERY >= 200) | ~IS_FREQUENT & (QUERY < 120))  # 100 and 60.
    drawn = sample(model=knows_none(), popular=popular, similar=similar)
    search = Search(drawn, slices(), tail_weight=1.0, baselines=["popular", "similar"])
    assert search.outcome(search.best()).recall == pytest.approx((170 / 400, 170 / 400))


def test_few_queries_give_up_two_percent_however_much_chance_explains():
    popular = either_or(IS_FREQUENT & (QUERY < 340))  # 170.
    rare = either_or(IS_FREQUENT & (QUERY >= 200) | ~IS_FREQUENT & (QUERY < 130))  # 100 and 65.
    drawn = sample(model=knows_none(), popular=popular, rare=rare)
    search = Search(drawn, slices(), tail_weight=1.0)
    assert search.outcome(search.best()).recall == pytest.approx((170 / 400, 170 / 400))
    assert _found_rare(Search(drawn, slices(), tail_weight=5.0)) == pytest.approx(65 / 200)


def test_a_tail_that_weighs_more_may_cost_the_models_head_but_not_a_baselines():
    model = either_or(IS_FREQUENT & (QUERY < 360))  # 180 of 200.
    rare = either_or(IS_FREQUENT & (QUERY < 340) | ~IS_FREQUENT & (QUERY < 28))  # 170 and 14.
    drawn = sample(model=model, same=model, rare=rare)
    of_rare = Weights(model=0.0, channels={"rare": 1.0})

    def excess(tail_weight: float, *baselines: str) -> float:
        return Search(drawn, slices(), tail_weight, baselines).outcome(of_rare).excess

    lost = 10 / 10**0.5  # In standard errors: of the head's queries, 10 differ.
    assert excess(0.0) == excess(0.3) == pytest.approx(lost - 1.645)
    assert excess(1.0) == 0
    assert excess(1.0, "same") == pytest.approx(lost)


def _found_rare(search: Search) -> float:
    hits = search.outcome(search.best()).hits[1]
    return float(hits[~IS_FREQUENT].mean())
