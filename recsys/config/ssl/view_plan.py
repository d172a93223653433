"""The items that a method samples, and what their views hide."""

from dataclasses import dataclass
from typing import Literal

ItemSource = Literal["uniform", "frequency", "training"]
IdUse = Literal["masked", "hidden", "shown"]


@dataclass(frozen=True)
class Masks:
    """Features that the views of an item hide.

    Attributes:
        group_size: Number of features in a drawn group; None: about half.
        are_complementary: Whether every second view hides what the view before it shows.
        id_feature: Whether the id takes part in the groups, or all views hide or show it.
        information: Name of the matrix of mutual information that groups are drawn by; None: groups
            are random.
    """

    group_size: int | None
    are_complementary: bool
    id_feature: IdUse
    information: str | None = None


@dataclass(frozen=True)
class ViewPlan:
    """Items that a method samples in each step, and their views.

    Attributes:
        count: Number of views of each item.
        items: Distribution that the items are drawn from.
        batch_size: Number of items of a global batch; None: as many as examples.
        masks: Features that the views hide; None: none.
        value_dropout: Probability that a view leaves out a value of a multi-valued feature.
        id_dropout: Probability that a view hides the id of its item, beside the masks.
        of_neighbours: Whether every second view shows a neighbour in the place of the item.
    """

    count: int
    items: ItemSource
    batch_size: int | None
    masks: Masks | None = None
    value_dropout: float = 0.0
    id_dropout: float = 0.0
    of_neighbours: bool = False
