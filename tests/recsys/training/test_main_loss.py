"""The main task as a whole: each kind of candidates, and the same on any ranks."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from feature_store.core.errors import UserError
from recsys.config.load import parse_config
from recsys.config.loss import LossConfig
from recsys.data.builder import BatchBuilder
from recsys.losses import softmax as losses
from recsys.losses.frequency import build_frequency
from recsys.training.main_loss import MainLoss
from tests.support.ranks import saved_tensors, train_on_ranks
from tests.support.small_batches import ITEMS, NEVER_TRAINED, config, local_batch, prepared

DIM = 6
UNIFORM = 10
MODES = {
    "in_batch": {},
    "mixed": {"candidates": {"kind": "mixed", "uniform": UNIFORM}},
    "corpus": {"candidates": {"kind": "corpus"}},
}


def normalised(rows):
    return torch.nn.functional.normalize(rows, dim=1)


def item_vectors(step):
    """Returns vectors of all items, which move a little in each step, as they do in training."""
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(ITEMS, DIM, generator=generator)
    return normalised(start + 0.1 * step)


def query_vectors(size, step):
    return normalised(torch.randn(size, DIM, generator=torch.Generator().manual_seed(100 + step)))


class Ranks:
    """Several ranks in one process; a gather joins the rows of all of them."""

    def __init__(self, world_size, monkeypatch, **loss):
        self.world_size = world_size
        self.settings = config(loss=loss)
        data = prepared()
        self.builder = BatchBuilder(data, self.settings)
        self.losses = [self._loss() for _ in range(world_size)]
        self._parts = []
        monkeypatch.setattr(losses, "gather", self._gather)

    def _loss(self):
        frequency = build_frequency(self.settings.loss, ITEMS)
        return MainLoss(self.settings.loss, frequency)

    def _gather(self, rows):
        for name in ("candidates", "log_q", "items", "vectors"):
            if any(rows is getattr(part, name) for part in self._parts):
                return torch.cat([getattr(part, name) for part in self._parts])
        raise AssertionError

    def step(self, step, size):
        """Returns each rank's loss."""
        self._parts, everything = [], item_vectors(step)
        queries = query_vectors(size, step)
        for rank in range(self.world_size):
            own = local_batch(step, size, rank, self.world_size)
            host = self.builder.training(own, rank, self.world_size)
            part = SimpleNamespace(**{k: torch.from_numpy(v) for k, v in vars(host).items()})
            rows = len(part.items)
            part.num_examples, part.num_candidates = rows, len(part.candidates)
            part.queries = queries[rank * rows :][:rows]
            part.queries = torch.cat([part.queries, torch.ones(rows - len(part.queries), DIM)])
            part.vectors = everything[part.candidates]
            self._parts.append(part)
        means = []
        for loss, part in zip(self.losses, self._parts, strict=True):
            encoded = SimpleNamespace(queries=part.queries, items=part.vectors)
            means.append(loss(encoded, part).item())
        return means


def log_sampled(item, q, mode, size):
    if mode == "in_batch":
        return math.log(q[item])
    if mode == "corpus":
        return 0.0
    return math.log((size * q[item] + UNIFORM / ITEMS) / (size + UNIFORM))


def naive_losses(mode, sizes, *, strength=1.0, masked="known"):
    """Computes the loss of each step, candidate by candidate."""
    data = prepared()
    q = np.maximum(data.item_frequency, 1) / data.item_frequency.sum()
    known = data.query_state.train
    builder = BatchBuilder(data, config(loss=MODES[mode]))
    means = []
    for step, size in enumerate(sizes):
        whole, vectors = local_batch(step, size), item_vectors(step)
        queries = query_vectors(size, step)
        items = builder.candidates.build(whole, 0, 1).items.tolist()
        candidates = [
            (i, vectors[i], log_sampled(i, q, mode, size) - (1 - strength) * math.log(q[i]))
            for i in items
        ]
        total = 0.0
        for row in range(size):
            own = int(whole.item[row])
            bags = {
                "known": known.values[4 * whole.query[row] :][:4],
                "history": [*whole.history.values[3 * row :][:3], own],
                "target": [own],
            }
            others = {int(item) for item in bags[masked]}
            target = row if mode != "corpus" else items.index(own)
            scores = [
                float(queries[row] @ vector) / 0.07 - correction
                for column, (item, vector, correction) in enumerate(candidates)
                if column == target or item not in others
            ]
            _, vector, correction = candidates[target]
            target_score = float(queries[row] @ vector) / 0.07 - correction
            total += math.log(sum(math.exp(score) for score in scores)) - target_score
        means.append(total / size)
    return means


@pytest.mark.parametrize("world_size", [1, 3])
@pytest.mark.parametrize(
    ("mode", "others"),
    [
        ("in_batch", {}),
        ("in_batch", {"masked": "target"}),
        ("in_batch", {"masked": "history"}),
        ("mixed", {"strength": 0.6}),
        ("corpus", {"strength": 0.4}),
        ("corpus", {"masked": "history"}),
    ],
)
def test_the_loss_of_any_number_of_ranks_equals_a_naive_loop(monkeypatch, world_size, mode, others):
    sizes = [8, 5, 7, 8, 8]
    keys = {**MODES[mode], **{key: others[key] for key in others if key == "masked"}}
    if "strength" in others:
        keys["logq"] = {"strength": others["strength"]}
    ranks = Ranks(world_size, monkeypatch, **keys)
    expected = naive_losses(mode, sizes, **others)
    means = [np.mean(ranks.step(step, size)) for step, size in enumerate(sizes)]
    assert means == pytest.approx(expected, rel=1e-4)


def test_the_streaming_estimate_of_the_corpus_is_that_of_the_examples(monkeypatch):
    keys = {"logq": {"source": {"kind": "streaming"}, "strength": 0.5}, **MODES["corpus"]}
    ranks = Ranks(3, monkeypatch, **keys)
    ranks.step(0, 7)
    for loss in ranks.losses:
        assert loss.frequency.examples == 7


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"candidates": {}},
            "candidates.kind is missing; expected one of: in_batch, mixed, corpus",
        ),
        (
            {"candidates": {"kind": "batch"}},
            "candidates.kind is 'batch'; expected one of: in_batch",
        ),
        ({"candidates": {"kind": "in_batch", "uniform": 5}}, "unknown key loss.candidates.uniform"),
        ({"candidates": {"kind": "corpus", "uniform": 5}}, "unknown key loss.candidates.uniform"),
        ({"candidates": {"kind": "corpus", "across_ranks": False}}, "candidates.across_ranks"),
        ({"temperature": -1}, "^test: loss.temperature: Input should be greater than 0"),
    ],
)
def test_settings_without_effect_or_meaning_are_errors(keys, message):
    document = {**config().model_dump(mode="json"), "loss": keys}
    with pytest.raises(UserError, match=message):
        parse_config(document, source="test")


def test_never_trained_items_are_negatives_like_others():
    host = BatchBuilder(prepared(), config(loss=MODES["corpus"])).training(local_batch(0), 0, 1)
    assert (host.candidates >= NEVER_TRAINED).sum() == ITEMS - NEVER_TRAINED
    assert np.isfinite(host.log_q).all()


def short(planted, epochs, **loss):
    """Returns a configuration of few steps and equal towers on all ranks."""
    loss = LossConfig(
        history_dropout=0.2,
        logq={"strength": 0.5},
        **loss,
    )
    training = {"epochs": epochs, "batch_size": 101, "patience": 50}
    return planted.model_copy(
        update={
            "model": planted.model.model_copy(update={"dropout": 0.0}),
            "loss": loss,
            "training": planted.training.model_copy(update=training),
        }
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "keys",
    [
        {"candidates": {"kind": "mixed", "uniform": 45}},
        {"candidates": {"kind": "corpus"}},
    ],
)
def test_two_ranks_equal_one(planted, tmp_path, keys):
    for ranks in (1, 2):
        train_on_ranks(short(planted, 1, **keys), tmp_path / str(ranks), ranks)
    one, two = (saved_tensors(tmp_path / str(ranks)) for ranks in (1, 2))
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-3, atol=1e-4, msg=name)
