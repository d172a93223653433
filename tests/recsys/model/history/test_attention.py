"""Self-attention over jagged histories is what it is over one history after the other."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from recsys.model.history.attention import SelfAttention, lay_out
from recsys.model.history.histories import Histories
from tests.support.histories import ITEMS, MAX_LENGTH, inputs, jagged, joined


def naive_attention(model: SelfAttention, history):
    """Computes the states of one history, element by element and head by head."""
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
            for position in range(len(states)):
                logits = [
                    query[position] @ key[earlier] / math.sqrt(size)
                    + block.places_back[position - earlier, head]
                    for earlier in range(position + 1)
                ]
                weights = torch.softmax(torch.stack(logits), dim=0)
                attended[position, head * size : (head + 1) * size] = (
                    weights @ value[: position + 1]
                )
        states = states + block.output(attended)
        states = states + block.feed_forward(block.second_norm(states))
    return model.norm(states)


@pytest.mark.parametrize("lengths", [[3, 0, 1, 20, 7, 2, 9], [1], [0, 0], [5] * 9, [20, 20]])
def test_attention_over_jagged_histories_is_that_over_each_alone(lengths):
    model = joined("attention")["attention"]
    table, default = inputs()
    items, offsets = jagged(lengths)
    every = torch.arange(len(items))
    found = model(table, Histories(items, offsets, every), default)
    histories = [table[part] for part in items.split(lengths)]
    expected = torch.cat(
        [naive_attention(model, part) for part in histories if len(part)] or [found]
    )
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_attention_reads_the_latest_of_a_history_that_is_too_long():
    model = joined("attention")["attention"]
    table, default = inputs()
    items, offsets = jagged([MAX_LENGTH + 13, 4])
    found = model(table, Histories(items, offsets), default)
    cut = torch.cat([items[13 : MAX_LENGTH + 13], items[-4:]])
    shorter = torch.tensor([0, MAX_LENGTH, MAX_LENGTH + 4])
    torch.testing.assert_close(found, model(table, Histories(cut, shorter), default))


def test_attention_trains_through_dropout_on_a_task_that_needs_order():
    """Asks which item came second to last, which no mean tells."""
    settings = {"width": 32, "layers": 1, "dropout": 0.1}
    model = joined("attention", item_dim=16, attention=settings)
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
    assert torch.equal(flat[layout.position], torch.arange(int(offsets[-1])))
