"""Jagged histories and their encoders, without a model around them."""

import numpy as np
import torch
from torch import Tensor

from recsys.config.model import ModelConfig
from recsys.model.history import JoinedEncoders
from recsys.model.history.histories import HistoryContext

ITEMS, ITEM_DIM, MAX_LENGTH = 40, 6, 20
CPU = torch.device("cpu")


def jagged(lengths: list[int], seed: int = 0) -> tuple[Tensor, Tensor]:
    """Draws the items of histories of some lengths, and returns their offsets too."""
    torch.manual_seed(seed)
    items = torch.randint(ITEMS, (sum(lengths),))
    return items, torch.tensor([0, *np.cumsum(lengths)])


def joined(*kinds: str, item_dim: int = ITEM_DIM, **settings: dict) -> JoinedEncoders:
    """Builds encoders with positions that matter, as they do after training.

    Args:
        kinds: Kinds of the encoders.
        item_dim: Columns of the items' inputs.
        settings: Settings of the encoders, by kind.
    """
    torch.manual_seed(1)
    given = {"attention": {"width": 8, "heads": 2, "dropout": 0.0}, **settings}
    model = ModelConfig(history=[{"kind": kind, **given.get(kind, {})} for kind in kinds])
    encoders = JoinedEncoders(model.history, HistoryContext(item_dim, MAX_LENGTH, CPU))
    for name, parameter in encoders.named_parameters():
        if "places_back" in name:
            torch.nn.init.normal_(parameter)
    return encoders


def inputs() -> tuple[Tensor, Tensor]:
    """Draws inputs of items [ITEMS, ITEM_DIM], and a default for empty histories."""
    torch.manual_seed(2)
    return torch.randn(ITEMS, ITEM_DIM), torch.randn(ITEM_DIM)
