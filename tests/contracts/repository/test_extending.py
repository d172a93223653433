"""docs/extending.md: the method and the encoder that it adds are what their contracts ask for."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from feature_store.core.columns import Jagged
from recsys.channels.channel import Channel, ChannelData
from recsys.channels.log import TrainingLog
from recsys.channels.product import Product
from recsys.config import model as model_settings
from recsys.config.ssl import contrastive as ssl_settings
from recsys.losses.softmax import gather
from recsys.model import history
from recsys.model.history.histories import Histories, HistoryContext
from recsys.ssl import method, methods
from tests.support.histories import ITEM_DIM, inputs, jagged
from tests.support.ssl_batches import assert_padding_has_no_influence, method_of, random_batch

PAGE = (Path(__file__).parents[3] / "docs" / "extending.md").read_text(encoding="utf-8")


def run(section: str, **names: Any) -> dict[str, Any]:
    """Runs the code of a section of the page, and returns its names."""
    text = PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    names["__name__"] = "docs.extending"
    for block in re.findall(r"```python\n(.*?)```", text, re.S):
        exec(compile(block, "docs/extending.md", "exec"), names)
    return names


def test_a_self_supervised_method(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods, "METHODS", dict(methods.METHODS))
    known = {"torch": torch, "Tensor": torch.Tensor, "gather": gather}
    page = run(
        "A self-supervised method",
        **vars(ssl_settings),
        **{name: getattr(method, name) for name in ("SslBatch", "SslContext", "SslMethod")},
        **known,
        METHODS=methods.METHODS,
    )
    settings = page["Alignment"]()
    assert settings.search_space.keys() <= type(settings).model_fields.keys()
    assert_padding_has_no_influence(settings)
    batch = random_batch(settings, torch.arange(5))
    view_a, view_b = batch.vectors
    expected = (view_a - view_b).square().sum(dim=1).mean()
    torch.testing.assert_close(method_of(settings)(batch), expected)


def test_a_history_encoder() -> None:
    encoders = dict(history.ENCODERS)
    page = run(
        "A history encoder",
        **vars(model_settings),
        **{"torch": torch, "F": F, "Tensor": torch.Tensor, "ENCODERS": encoders},
        HistoryEncoder=history.HistoryEncoder,
        HistoryContext=HistoryContext,
        Histories=Histories,
    )
    context = HistoryContext(ITEM_DIM, 20, torch.device("cpu"))
    encoder = encoders[page["MaxHistory"]](page["MaxHistory"](), context)
    table, default = inputs()
    items, offsets = jagged([3, 0, 5])
    read = torch.tensor([1, -1, 7])
    encoded = encoder(table, Histories(items, offsets, read), default)
    expected = [table[items[:2]].amax(dim=0), default, table[items[3:]].amax(dim=0)]
    torch.testing.assert_close(encoded, torch.stack(expected))


def test_a_channel() -> None:
    items = Jagged(np.array([0, 1, 1, 2, 0, 1], np.int32), np.array([0, 2, 4, 6]))
    channel = run("A channel", Channel=Channel, ChannelData=ChannelData, Product=Product)
    data = SimpleNamespace(log=TrainingLog(items, None, num_items=3))
    found = channel["Companions"].product(data).highest(0, 3, 2).toarray()
    assert found.tolist() == [[0, 2, 0], [2, 0, 1], [0, 1, 0]]
