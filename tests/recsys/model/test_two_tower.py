"""The towers and the objective on one process, without sharding."""

from dataclasses import replace

import numpy as np
import torch

from feature_store.core.columns import Jagged
from recsys.config.model import HISTORY_SETTINGS, ModelConfig
from recsys.data.batch import Batch
from recsys.data.builder import BatchBuilder
from recsys.model.history.histories import Histories
from recsys.model.side_inputs import FeatureInput
from recsys.model.two_tower import TwoTower
from recsys.training.objective import build_objective, ssl_batch
from tests.support.small_batches import NEVER_TRAINED, config, local_batch, prepared

ITEM_INPUTS = (
    FeatureInput("item.item_id", 4, 30, 0),
    FeatureInput("item.kind", 4, 4, 0),
    FeatureInput("item.tags", 4, 100, 0),
    FeatureInput("item.price", 4, 0, 1),
)
QUERY_INPUTS = (FeatureInput("query.country", 4, 4, 0),)


def tiny_model(**settings):
    torch.manual_seed(0)
    settings = {"dim": 8, "item_tower": [16], "query_tower": [16], **settings}
    return TwoTower(ITEM_INPUTS, QUERY_INPUTS, [], ModelConfig(**settings), 50)


def batch_of(builder, host):
    return Batch.from_host(host, builder.keys(), host.history_rows)


def training_batch(settings, step=2):
    builder = BatchBuilder(prepared(), settings)
    return batch_of(builder, builder.training(local_batch(step), 0, 1))


def test_outputs_are_normalised_and_views_of_an_item_differ():
    encoded = tiny_model()(training_batch(config()))
    for vectors in (encoded.queries, encoded.items, *encoded.views):
        assert vectors.shape == (8, 8)
        assert torch.allclose(vectors.norm(dim=1), torch.ones(8), atol=1e-5)
    assert not torch.allclose(*encoded.views)


def test_masked_and_absent_features_become_the_learned_default():
    model = tiny_model()
    batch = training_batch(config())
    seen = []
    model.item_inputs.register_forward_hook(lambda _, __, output: seen.append(output))
    model(batch)
    inputs, default = seen[0], model.item_inputs.default
    examples, views = batch.num_examples, batch.view_items.shape[1]
    lengths = batch.sparse.lengths().view(len(batch.sparse.keys()), -1)
    for row in range(examples, examples + 2 * views):
        for position, name in enumerate(("item.item_id", "item.kind", "item.tags")):
            columns = slice(4 * position, 4 * position + 4)
            is_default = torch.equal(inputs[row, columns], default[columns])
            is_masked = bool(lengths[batch.sparse.keys().index(name), row] == 0)
            assert is_default == is_masked
        is_default = torch.equal(inputs[row, 12:], default[12:])
        assert is_default == (not batch.item_dense_present[row, 0])


def test_the_default_embedding_gets_a_gradient_from_the_self_supervised_loss():
    settings = config()
    objective = build_objective(tiny_model(), settings, prepared())
    batch = training_batch(settings)
    objective.self_supervision(ssl_batch(objective.model(batch), batch)).backward()
    gradient = objective.model.item_inputs.default.grad.view(4, 4)
    assert (gradient.abs().sum(dim=1) > 0).all()  # Every feature is masked in one of the views.


def test_the_loss_is_the_main_loss_plus_alpha_times_the_self_supervised_one():
    settings = config(ssl={"alpha": 0.3})
    objective = build_objective(tiny_model(), settings, prepared())
    total, parts = objective(training_batch(settings))
    assert torch.allclose(total, parts["main"] + 0.3 * parts["ssl"])
    none = config(ssl={"method": "none"})
    alone, parts = build_objective(tiny_model(), none, prepared())(training_batch(none))
    assert set(parts) == {"main"}
    assert torch.equal(alone.detach(), parts["main"])


def test_logq_lowers_popular_items_in_training_and_not_in_serving():
    data = prepared()
    data.item_frequency[:NEVER_TRAINED] = 1
    data.item_frequency[0] = 1000
    corrected, plain = config(), config(loss={"logq": {"strength": 0.0}})
    builder = BatchBuilder(data, corrected)
    host = builder.training(local_batch(6), 0, 1)
    items, weight = host.items.copy(), host.weight.copy()
    items[0], weight[0] = 0, 0.0
    log_q, no_hits = builder._log_q[items], np.zeros((0, 2), np.int64)
    batch = batch_of(
        builder, replace(host, items=items, log_q=log_q, weight=weight, accidental_hits=no_hits)
    )
    seen = {}
    for name, settings in (("corrected", corrected), ("plain", plain)):
        objective = build_objective(tiny_model(), settings, prepared())
        encoded = objective.model(batch)
        seen[name] = objective.main_loss(encoded, batch).item()
        seen[f"{name} vectors"] = encoded.items
    # As a negative of the other queries the popular item counts less ...
    assert seen["corrected"] < seen["plain"]
    # ... and what is served, the vectors, does not depend on it.
    assert torch.equal(seen["corrected vectors"], seen["plain vectors"])


def test_an_empty_history_is_the_default_for_every_pooling():
    model = tiny_model(
        history=[{"kind": k} for k in ("mean", "last", "recent", "attention")]
    ).eval()
    builder = BatchBuilder(prepared(), config(ssl={"method": "none"}))
    history = Jagged.from_lengths(np.array([3, 1]), np.array([0, 2]))
    seen = []
    model.history.register_forward_hook(lambda _, __, output: seen.append(output))
    model(batch_of(builder, builder.queries(np.array([1, 1]), history, {})))
    empty, full = seen[0].split(1)
    default = model.item_inputs.default
    assert torch.equal(empty[0, : 3 * len(default)], default.repeat(3))
    parts = full[0, : 3 * len(default)].view(3, -1)
    assert len({tuple(part.tolist()) for part in parts}) == 3
    attention = model.history["attention"]
    no_items, nothing = torch.zeros(0, dtype=torch.long), torch.zeros(2, dtype=torch.long)
    alone = attention(torch.zeros(0, len(default)), Histories(no_items, nothing), default)
    torch.testing.assert_close(empty[:, 3 * len(default) :], alone)


def test_a_batch_in_which_every_history_is_empty():
    model = tiny_model(history=[{"kind": kind} for kind in HISTORY_SETTINGS])
    builder = BatchBuilder(prepared(), config(ssl={"method": "none"}))
    encoded = model(batch_of(builder, builder.items(np.arange(5))))
    assert encoded.items.isfinite().all()
