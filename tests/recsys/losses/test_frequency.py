"""The streaming estimate of item frequencies against loops, known streams and killed trainings."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.multiprocessing import ProcessExitedException

from pipelines.prepared.reader import Prepared
from recsys.config.loss import LossConfig
from recsys.losses.frequency import StreamingFrequency, build_frequency
from recsys.training.main_loss import MainLoss
from recsys.training.run import training_plan
from tests.support.ranks import saved_tensors, train_on_ranks
from tests.support.small_batches import config as small_config

STREAMING, CORPUS = {"kind": "streaming"}, {"kind": "corpus"}


def by_loop(stream: list[int], rate: float) -> dict[int, float]:
    """Computes the interval of each item by algorithm 2 of the paper, an example at a time."""
    last: dict[int, int] = {}
    interval: dict[int, float] = {}
    count: dict[int, int] = {}
    for time, item in enumerate(stream, start=1):
        count[item] = count.get(item, 0) + 1
        step = max(rate, 1 / count[item])
        interval[item] = (1 - step) * interval.get(item, 0.0) + step * (time - last.get(item, 0))
        last[item] = time
    return interval


def follow(frequency: StreamingFrequency, stream: np.ndarray, batch: int) -> None:
    for start in range(0, len(stream), batch):
        frequency.update(torch.from_numpy(stream[start : start + batch]))


def estimates(frequency: StreamingFrequency, items: int) -> np.ndarray:
    return frequency.log_q(torch.arange(items)).exp().numpy()


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=60),
    st.integers(1, 20),
    st.sampled_from([0.01, 0.3, 0.5, 1.0]),
)
@settings(max_examples=150, deadline=None)
def test_batches_equal_a_loop_over_the_examples(stream, batch, rate):
    frequency = StreamingFrequency(6, rate)
    follow(frequency, np.array(stream), batch)
    expected = by_loop(stream, rate)
    found = frequency.interval[0].numpy()
    for item in range(6):
        assert found[item] == pytest.approx(expected.get(item, 0.0), rel=1e-12)


# One item that is a fifth of all examples, and so in every batch many times, and rare ones.
SHARES = np.array([0.2, 0.1, 0.05, *[0.65 / 97] * 97])


def log_errors(shares: np.ndarray, batch: int, rate: float, examples: int) -> np.ndarray:
    """Computes the log of estimate over truth, [80 streams, items]."""
    found = []
    for seed in range(80):
        stream = np.random.default_rng(seed).choice(len(shares), examples, p=shares)
        frequency = StreamingFrequency(len(shares), rate)
        follow(frequency, stream, batch)
        found.append(np.log(estimates(frequency, len(shares)) / shares))
    return np.array(found)


@pytest.mark.parametrize("batch", [100, 512])
def test_a_stationary_stream_is_learnt_with_the_stated_bias_and_variance(batch):
    rate, shares = 0.05, np.array([0.3, 0.2, 0.1, *[0.02] * 20])
    errors = log_errors(shares, batch, rate, 8_000)  # About 160 events of the rarest items.
    expected = rate / (2 - rate) * (1 - shares)  # Var(B) q^2, a geometric interval's.
    for items in (slice(0, 3), slice(3, None)):
        size = errors[:, items].size
        wanted = expected[items].mean()
        # A sample's variance has a relative error of sqrt(2 / size).
        assert errors[:, items].var() == pytest.approx(wanted, rel=4 * (2 / size) ** 0.5)
        assert errors[:, items].mean() == pytest.approx(wanted / 2, abs=4 * (wanted / size) ** 0.5)


def test_the_first_events_are_averaged():
    errors = log_errors(SHARES, 64, 0.001, 6_000)  # A rare item has 40 events, far below 1/rate.
    rare = errors[:, 3:]
    assert abs(rare.mean()) < 0.03
    assert rare.std() == pytest.approx(40**-0.5, rel=0.15)


def test_a_shift_is_followed():
    before, after = SHARES, SHARES[::-1].copy()
    random = np.random.default_rng(0)
    frequency = StreamingFrequency(100, 0.05)
    follow(frequency, random.choice(100, 40_000, p=before), 256)
    old = estimates(frequency, 100)
    follow(frequency, random.choice(100, 40_000, p=after), 256)
    new = estimates(frequency, 100)
    moved = np.abs(np.log(after / before)) > 1
    assert moved.sum() == 6
    assert np.abs(np.log(old / before))[moved].max() < 0.6
    assert np.abs(np.log(new / after))[moved].max() < 0.6


def test_shared_counters_overestimate_and_several_hashes_mend_most_of_it():
    random = np.random.default_rng(0)
    shares = (1 + np.arange(1000.0)) ** -1
    shares /= shares.sum()
    stream = random.choice(1000, 100_000, p=shares)
    exact, shared = StreamingFrequency(1000, 0.02), StreamingFrequency(1000, 0.02, 500)
    follow(exact, stream, 500)
    follow(shared, stream, 500)
    assert shared.interval.shape == (4, 500)
    error = np.log(estimates(shared, 1000) / estimates(exact, 1000))
    popular = error[:100]
    assert np.median(np.abs(popular)) < 0.05
    assert np.quantile(error, 0.05) > -0.3
    single = np.log(1 / shared.interval[0].numpy()[shared._counters(torch.arange(1000))[0]])
    truth = np.log(estimates(exact, 1000))
    assert np.abs(error).mean() < 0.7 * np.abs(single - truth).mean()


def test_padding_is_no_example():
    padded, plain = StreamingFrequency(3, 0.1), StreamingFrequency(3, 0.1)
    for items in ([0, 1, -1], [-1, -1], [2, 0]):
        padded.update(torch.tensor(items))
        plain.update(torch.tensor([item for item in items if item >= 0], dtype=torch.int64))
    for found, expected in zip(padded.buffers(), plain.buffers(), strict=True):
        assert torch.equal(found, expected)
    assert padded.examples == 4
    assert padded.log_q(torch.tensor([-1, 2])).isfinite().all()


def test_an_item_that_was_never_seen_is_rarer_than_all():
    frequency = StreamingFrequency(3, 0.1)
    frequency.update(torch.tensor([0, 1, 0, 1]))
    assert frequency.log_q(torch.tensor([2])) < frequency.log_q(torch.tensor([0, 1])).min()


def test_the_streaming_estimate_replaces_q_in_the_loss_with_the_same_sign():
    settings = small_config(loss={"logq": {"source": {"kind": "streaming", "learning_rate": 0.1}}})
    frequency = build_frequency(settings.loss, 5)
    loss = MainLoss(settings.loss, frequency)
    follow(frequency, np.array([0, 0, 0, 1] * 50), 8)
    same = torch.ones(2, 4) / 2  # All logits are equal, so the loss is decided by Q.
    encoded = SimpleNamespace(queries=same, items=same)
    batch = small_batch(items=[0, 1])
    loss.eval()
    found = loss(encoded, batch)
    log_q = frequency.log_q(torch.tensor([0, 1]))
    assert log_q.exp().tolist() == pytest.approx([0.75, 0.25], rel=0.5)
    batch.log_q = log_q
    assert torch.equal(found, MainLoss(small_config().loss)(encoded, batch))
    popular, rare = torch.softmax(-log_q, dim=0)
    assert popular < rare
    assert found.item() == pytest.approx(float(-(popular.log() + rare.log()) / 2), rel=1e-5)
    loss.train()
    loss(encoded, batch)
    assert frequency.examples == 202


def small_batch(items):
    batch = SimpleNamespace()
    batch.items = batch.candidates = torch.tensor(items)
    batch.log_q = torch.zeros(len(items))
    batch.weight = torch.ones(len(items))
    batch.targets = torch.arange(len(items))
    batch.accidental_hits = torch.zeros((0, 2), dtype=torch.int64)
    return batch


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"logq": {"source": {"kind": "exact", "learning_rate": 0.1}}}, "learning_rate"),
        ({"logq": {"source": {"kind": "exact", "buckets": 100}}}, "buckets"),
        ({"logq": {"source": STREAMING, "strength": 0}}, "no effect with candidates in_batch"),
        ({"logq": {"source": STREAMING}, "candidates": CORPUS}, "no effect with candidates corpus"),
    ],
)
def test_settings_without_effect_are_errors(keys, message):
    with pytest.raises(ValueError, match=message):
        LossConfig(**keys)


def streaming(planted):
    """Returns a configuration of few steps, with the same towers on all ranks."""
    return planted.model_copy(
        update={
            "model": planted.model.model_copy(update={"dropout": 0.0}),
            "loss": LossConfig(
                logq={"source": {**STREAMING, "learning_rate": 0.05}}, history_dropout=0.2
            ),
            "training": planted.training.model_copy(update={"epochs": 2, "patience": 50}),
        }
    )


def frequency_state(directory):
    state = {n: t for n, t in saved_tensors(directory).items() if ".frequency." in n}
    return {name.rpartition(".")[2]: tensor for name, tensor in state.items()}


def test_a_killed_run_goes_on_with_the_same_estimates_on_any_number_of_ranks(planted, tmp_path):
    config = streaming(planted)
    prepared = Prepared(config.prepared_dir)
    plan = training_plan(prepared, config)
    train_on_ranks(config, tmp_path / "whole", 1)
    with pytest.raises(ProcessExitedException):
        train_on_ranks(config, tmp_path / "killed", 2, killed_after=plan.steps_per_epoch)
    train_on_ranks(config, tmp_path / "killed", 1)
    whole, killed = frequency_state(tmp_path / "whole"), frequency_state(tmp_path / "killed")
    assert whole.keys() == {"last", "interval", "events", "examples"}
    assert all(torch.equal(whole[name], killed[name]) for name in whole)
    seen = whole["events"][0].numpy()
    assert (seen == 2 * prepared.item_frequency).all()  # Two epochs, without any padding.
    assert whole["examples"] == seen.sum()
    shares = prepared.item_frequency / prepared.item_frequency.sum()
    error = np.log(1 / whole["interval"][0].numpy()[seen > 0] / shares[seen > 0])
    assert np.abs(error).mean() < 0.5
