"""Histories read jagged are what they are read one by one, and no element sees a later one."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from feature_store.core.columns import Jagged
from feature_store.encoding.pooling import bag_weights, decay_rate
from recsys.config.model import ModelConfig
from recsys.model.attention import SelfAttention, lay_out
from recsys.model.history import Histories, HistoryEncoder, recency_weights_of

ITEMS, ITEM_DIM, MAX_LENGTH = 40, 6, 20
CPU = torch.device("cpu")


def jagged(lengths, seed=0):
    torch.manual_seed(seed)
    items = torch.randint(ITEMS, (sum(lengths),))
    return items, torch.tensor([0, *np.cumsum(lengths)])


def encoder(poolings, **settings):
    """With positions that matter, as they do after training."""
    torch.manual_seed(1)
    attention = {"width": 8, "heads": 2, "dropout": 0.0} if "attention" in poolings else {}
    made = HistoryEncoder(
        ITEM_DIM,
        ModelConfig(history_pooling=poolings, attention=attention, **settings),
        MAX_LENGTH,
        CPU,
    )
    for name, parameter in made.named_parameters():
        if "places_back" in name:
            torch.nn.init.normal_(parameter)
    return made


def inputs():
    torch.manual_seed(2)
    return torch.randn(ITEMS, ITEM_DIM), torch.randn(ITEM_DIM)


def naive_attention(model: SelfAttention, history):
    """The states of one history, element by element and head by head; [length, width]."""
    states = model.project(history)
    for block in model.blocks:
        joint = block.joint(block.first_norm(states))
        width = states.shape[1]
        size = width // block.heads
        attended = torch.zeros_like(states)
        for head in range(block.heads):
            query, key, value = (
                joint[:, part * width + head * size : part * width + (head + 1) * size]
                for part in range(3)
            )
            for place in range(len(states)):
                logits = [
                    query[place] @ key[earlier] / math.sqrt(size)
                    + block.places_back[place - earlier, head]
                    for earlier in range(place + 1)
                ]
                weights = torch.softmax(torch.stack(logits), dim=0)
                attended[place, head * size : (head + 1) * size] = weights @ value[: place + 1]
        states = states + block.output(attended)
        states = states + block.feed_forward(block.second_norm(states))
    return model.norm(states)


@pytest.mark.parametrize("lengths", [[3, 0, 1, 20, 7, 2, 9], [1], [0, 0], [5] * 9, [20, 20]])
def test_attention_over_jagged_histories_is_that_over_each_alone(lengths):
    model = encoder(["attention"]).attention
    table, _ = inputs()
    items, offsets = jagged(lengths)
    every = torch.arange(len(items))
    found = model(table, items, offsets, every)
    histories = [table[part] for part in items.split(lengths)]
    expected = torch.cat(
        [naive_attention(model, part) for part in histories if len(part)] or [found]
    )
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_attention_reads_the_latest_of_a_history_that_is_too_long():
    model = encoder(["attention"]).attention
    table, _ = inputs()
    items, offsets = jagged([MAX_LENGTH + 13, 4])
    found = model(table, items, offsets, offsets[1:] - 1)
    cut = torch.cat([items[13 : MAX_LENGTH + 13], items[-4:]])
    shorter = torch.tensor([0, MAX_LENGTH, MAX_LENGTH + 4])
    torch.testing.assert_close(found, model(table, cut, shorter, shorter[1:] - 1))


@pytest.mark.parametrize("poolings", [["mean"], ["recent"], ["last"], ["attention"]])
def test_a_later_item_changes_no_earlier_state(poolings):
    model = encoder(poolings)
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


@pytest.mark.parametrize("poolings", [["mean", "last"], ["recent"], ["attention"]])
def test_an_example_that_reads_a_part_is_one_with_that_part_as_its_history(poolings):
    model = encoder(poolings)
    table, default = inputs()
    items, offsets = jagged([6, 0, 9])
    read = torch.tensor([2, -1, 14, 0, 6, 2, 5])
    found = model(table, Histories(items, offsets, read), default)
    starts = [0, 0, 6, 0, 6, 0, 0]
    parts = [items[start : end + 1] for start, end in zip(starts, read.tolist(), strict=True)]
    parts[1] = items[:0]
    alone = torch.tensor([0, *np.cumsum([len(part) for part in parts])])
    expected = model(table, Histories(torch.cat(parts), alone), default)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_recency_halves_with_the_half_life():
    model = encoder(["recent"], history_half_life=2.0)
    table, default = inputs()
    items, offsets = jagged([5])
    found = model(table, Histories(items, offsets), default)
    weights = 0.5 ** (torch.arange(4, -1, -1) / 2)
    torch.testing.assert_close(found[0], weights @ table[items] / weights.sum())


@pytest.mark.parametrize("half_life", [0.02, 1.0, 7.5, 10_000.0])
def test_recency_weights_are_the_same_in_numpy_and_in_torch(half_life):
    """Batches are weighted by numpy, exported towers and histories by torch."""
    lengths = np.array([0, 1, 2, 0, 5, 300, 10_000])
    bags = Jagged.from_lengths(np.zeros(lengths.sum()), lengths)
    offsets, total = torch.from_numpy(bags.offsets), len(bags.values)
    expected = torch.from_numpy(bag_weights(bags, half_life))
    rate = torch.tensor(decay_rate(half_life), dtype=torch.float64)
    found = recency_weights_of(offsets, total, rate)
    torch.testing.assert_close(found.float(), expected, rtol=1e-7, atol=0)
    found = recency_weights_of(offsets, total, rate.float())
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-30)


def test_the_learned_half_life_learns():
    model = encoder(["recent"])
    table, default = inputs()
    items, offsets = jagged([12] * 8)
    target = table[items[offsets[1:] - 1]]  # The last item alone: the half-life should shrink.
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    before = model.recent.log_rate.item()
    for _ in range(50):
        optimizer.zero_grad()
        F.mse_loss(model(table, Histories(items, offsets), default), target).backward()
        optimizer.step()
    assert model.recent.log_rate.item() > before + 1


def test_every_parameter_gets_a_gradient_even_where_every_history_is_empty():
    model = encoder(["mean", "last", "recent", "attention"])
    table, default = inputs()
    empty = Histories(torch.zeros(0, dtype=torch.long), torch.zeros(4, dtype=torch.long))
    model(table, empty, default).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_attention_trains_through_dropout_on_a_task_that_needs_order():
    """Which item came second to last: no mean tells."""
    torch.manual_seed(0)
    settings = ModelConfig(
        history_pooling=["attention"], attention={"width": 32, "layers": 1, "dropout": 0.1}
    )
    model = HistoryEncoder(16, settings, MAX_LENGTH, CPU)
    head = torch.nn.Linear(32, ITEMS)
    table, default = torch.randn(ITEMS, 16), torch.zeros(16)
    parameters = [*model.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, 0.01)
    for step in range(150):
        lengths = np.random.default_rng(step).integers(2, 9, 64).tolist()
        items, offsets = jagged(lengths, step)
        logits = head(model(table, Histories(items, offsets), default))
        loss = F.cross_entropy(logits, items[offsets[1:] - 2])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    items, offsets = jagged([5] * 200, 1000)
    answers = head(model(table, Histories(items, offsets), default)).argmax(dim=1)
    assert (answers == items[offsets[1:] - 2]).float().mean() > 0.9


def test_histories_of_similar_length_are_padded_together():
    offsets = torch.tensor([0, *np.cumsum([3, 0, 1, 20, 7, 2, 9])])
    layout = lay_out(offsets, int(offsets[-1]), MAX_LENGTH)
    assert [tuple(group.shape) for group in layout.groups] == [(3, 3), (1, 7), (1, 9), (1, 20)]
    flat = torch.cat([group.reshape(-1) for group in layout.groups])
    assert torch.equal(flat[layout.place], torch.arange(int(offsets[-1])))
