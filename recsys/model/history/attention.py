"""Causal self-attention over jagged histories, without padding where it costs.

The linear layers, which are nearly all of the work, run over the histories' elements end to end.
The attention itself runs over histories of similar length, padded to the longest of them:

    elements   a b c d e f g h i j k            offsets 0 3 5 11
    up to 4    a b c .                          scores [2, heads, 3, 3], for the longest has 3
               d e . .
    up to 8    f g h i j k . .                  scores [1, heads, 6, 6]

Padding is at the end, where the causal mask hides it from every element.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys.config.model import AttentionHistory
from recsys.model.history.histories import Histories, HistoryContext, HistoryEncoder

# Most elements of a history in the first group; in every other group twice as many.
_FIRST_LENGTH = 4
# Width of the layer between the two linear maps, in multiples of the width.
_EXPANSION = 4


class SelfAttention(HistoryEncoder):
    """A transformer over histories, from whose states the examples read one each.

    Layers are pre-norm: x + attention(norm(x)), then x + feed_forward(norm(x)), as in SASRec (Kang
    and McAuley 2018) but for the position of the norm. An element sees itself and what is before it
    in its history. Positions are counted back from the element that looks: each head learns how
    much each of them counts, in its softmax's logits (Raffel et al. 2020). So an element's state is
    the same wherever a window around its history ends, and can be shared by all that come after.

    Args:
        settings: Settings of the encoder.
        context: The model that it is made for; of longer histories the latest elements are read.
    """

    def __init__(self, settings: AttentionHistory, context: HistoryContext) -> None:
        super().__init__(settings.width)
        device, max_length = context.device, context.max_length
        self.max_length = max_length
        self.project = nn.Linear(context.item_dim, settings.width, device=device)
        # The only element of the history that stands for all empty ones.
        self.default = nn.Parameter(torch.empty(settings.width, device=device).normal_(std=0.05))
        self.dropout = nn.Dropout(settings.dropout)
        self.blocks = nn.ModuleList(
            Block(settings, max_length, device) for _ in range(settings.layers)
        )
        self.norm = nn.LayerNorm(settings.width, device=device)

    def forward(self, inputs: Tensor, histories: Histories, default: Tensor) -> Tensor:
        """Encodes histories, [examples, width]; it has a default of its own.

        Args:
            inputs: [items, item_dim] of the items that histories are made of.
            histories: Histories whose elements are rows of `inputs`.
            default: [item_dim]; not read.
        """
        elements = self.project(inputs).index_select(0, histories.items)
        states = self.dropout(torch.cat([self.default[None], elements]))
        layout = lay_out(F.pad(histories.offsets + 1, (1, 0)), states.shape[0], self.max_length)
        for block in self.blocks[:-1]:
            states = block(states, layout)
        return self.norm(self.blocks[-1](states, layout, histories.latest + 1))


class Block(nn.Module):
    """A layer of attention and one of two linear maps.

    Args:
        settings: Settings of the encoder.
        max_length: Longest history, in elements.
        device: Device of the parameters.
    """

    def __init__(self, settings: AttentionHistory, max_length: int, device: torch.device) -> None:
        super().__init__()
        width = settings.width
        self.heads = settings.heads
        self.first_norm = nn.LayerNorm(width, device=device)
        # Queries, keys and values. Without biases: one of keys has no effect, so that its gradient
        # is noise, which Adam would make as large as any other.
        self.joint = nn.Linear(width, 3 * width, bias=False, device=device)
        self.places_back = nn.Parameter(torch.zeros(max_length, settings.heads, device=device))
        self.output = nn.Linear(width, width, device=device)
        self.second_norm = nn.LayerNorm(width, device=device)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, _EXPANSION * width, device=device),
            nn.GELU(),
            nn.Linear(_EXPANSION * width, width, device=device),
        )
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, states: Tensor, layout: "Layout", read: Tensor | None = None) -> Tensor:
        """Computes the next states of the elements, or of `read` alone, [elements, width].

        Args:
            states: [elements, width].
            layout: Positions of the elements in matrices.
            read: [examples] elements; None: all.
        """
        attended = self._attend(self.joint(self.first_norm(states)), layout)
        if read is not None:
            states, attended = states.index_select(0, read), attended.index_select(0, read)
        states = states + self.dropout(self.output(attended))
        return states + self.dropout(self.feed_forward(self.second_norm(states)))

    def _attend(self, joint: Tensor, layout: "Layout") -> Tensor:
        """Computes attention within histories, from [elements, 3 x width] to [elements, width]."""
        width = joint.shape[1] // 3
        parts = []
        for elements in layout.groups:
            rows, length = elements.shape
            heads = joint.index_select(0, elements.reshape(-1))
            heads = heads.view(rows, length, 3, self.heads, width // self.heads)
            query, key, value = heads.permute(2, 0, 3, 1, 4)  # [rows, heads, length, dim]
            # Not `F.scaled_dot_product_attention`: the position logits need a gradient, and with
            # dropout it then computes these matrices too, on the CPU 20 % slower for 16 elements.
            logits = query @ key.mT * query.shape[-1] ** -0.5 + self._position_logits(length)
            weights = self.dropout(torch.softmax(logits, dim=-1))
            parts.append((weights @ value).transpose(1, 2).reshape(rows * length, width))
        return torch.cat(parts).index_select(0, layout.position)

    def _position_logits(self, length: int) -> Tensor:
        """Returns logits of positions, [heads, length, length]; minus infinity for later ones."""
        position = torch.arange(length, device=self.places_back.device)
        back = position[:, None] - position
        learned = self.places_back.index_select(0, back.clamp(min=0).view(-1))
        return learned.view(length, length, -1).permute(2, 0, 1).masked_fill(back < 0, -torch.inf)


@dataclass(frozen=True)
class Layout:
    """Positions of the elements of histories in matrices of histories of similar length.

    Attributes:
        groups: Elements in each matrix, [rows, length], and anything where a row has no more.
        position: [elements] in the groups' rows end to end.
    """

    groups: list[Tensor]
    position: Tensor


def lay_out(offsets: Tensor, total: int, max_length: int) -> Layout:
    """Places histories in matrices.

    On the CPU histories of similar length are padded together. A GPU would have to hand over how
    many there are, while its queue runs empty; there all histories are padded to `max_length`.

    Args:
        offsets: [histories + 1].
        total: Number of elements.
        max_length: Longest row; of longer histories the latest elements have a position, the
            others any.
    """
    starts = torch.maximum(offsets[:-1], offsets[1:] - max_length)
    lengths = offsets[1:] - starts
    if offsets.device.type == "cpu":
        rows = list(_similar(lengths))
    else:
        rows = [(torch.arange(lengths.shape[0], device=offsets.device), max_length)]
    groups, first, begin = [], torch.zeros_like(starts), 0
    for chosen, length in rows:
        steps = torch.arange(length, device=offsets.device)
        groups.append((starts[chosen][:, None] + steps).clamp(max=total - 1))
        first[chosen] = begin + length * torch.arange(chosen.shape[0], device=offsets.device)
        begin = begin + length * chosen.shape[0]
    element = torch.arange(total, device=offsets.device)
    history = torch.searchsorted(offsets[1:], element, right=True)
    position = first[history] + (element - starts[history]).clamp(min=0)
    return Layout(groups, position)


def _similar(lengths: Tensor) -> "list[tuple[Tensor, int]]":
    """Groups rows of similar length, each with its longest; empty ones are in no group."""
    groups, below, longest = [], 0, int(lengths.max())
    while below < longest:
        upto = max(_FIRST_LENGTH, 2 * below)
        rows = torch.nonzero((lengths > below) & (lengths <= upto)).view(-1)
        if len(rows):
            groups.append((rows, int(lengths[rows].max())))
        below = upto
    return groups
