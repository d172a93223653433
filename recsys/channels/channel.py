"""The interface of a retrieval channel."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pipelines.prepared.reader import Prepared
from recsys.channels.log import TrainingLog
from recsys.channels.matrix_files import stack
from recsys.channels.product import Product
from recsys.channels.sources import Reads
from recsys.channels.step import Step


@dataclass(frozen=True)
class ChannelData:
    """Data that channels are fitted to: training events and features, and nothing else.

    Attributes:
        prepared: The prepared data.
        log: Its training events.
    """

    prepared: Prepared
    log: TrainingLog

    @property
    def has_order(self) -> bool:
        """Whether the order of a query's events means something."""
        return self.log.times is not None and self.prepared.manifest.data.history.kind == "past"

    @property
    def queries_are_items(self) -> bool:
        """Whether a query's id is that of an item, as with pages that link to pages."""
        return bool(len(self.prepared.own_items.values))


class Channel(ABC):
    """Scores of items by the items of a query's history, or by the query's own item.

    A channel is a matrix of scores of every item as a neighbour of every other, given as a product
    of sparse matrices, of which each candidate keeps the highest. To add one, write a file like
    `co_occurrence.py` and add its class to `recsys.channels.kinds.CHANNELS`;
    `tests/contracts/registered/` then tests it.

    Attributes:
        name: Name in the configuration, in files and in tables.
        title: Name in texts.
        lists: Name of the lists it reads: its own, or those of another channel with this product.
        reads: Items of a query that speak for others. Where the order of events means nothing, all
            known items take the place of the history.
        second_hop: Weight of neighbours of neighbours; 0: none.
        most_neighbours: Most sources that a candidate keeps, whatever is configured.
        is_baseline: Whether it is a known method of its own, against which no slice may lose.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    lists: ClassVar[str]
    reads: ClassVar[Reads] = "history"
    second_hop: ClassVar[float] = 0.0
    most_neighbours: ClassVar[int] = 1000
    is_baseline: ClassVar[bool] = False

    @classmethod
    def why_not(cls, data: ChannelData) -> str | None:
        """Returns why the data has no such channel, as the end of a sentence; None: it has."""
        return None

    @classmethod
    def reads_in(cls, data: ChannelData) -> Reads:
        """Returns the items of a query that the channel reads in this data."""
        return "known" if cls.reads == "history" and not data.has_order else cls.reads

    @classmethod
    @abstractmethod
    def product(cls, data: ChannelData) -> Product:
        """Returns the scores of neighbours, before the second hop."""

    @classmethod
    def keeps_all(cls, data: ChannelData) -> bool:
        """Tells whether `product` itself is the lists: it has chosen the highest, or the lowest."""
        return False

    @classmethod
    def second_step(cls, data: ChannelData) -> type[Step] | None:
        """Returns the kind of the step that follows on the lists of `product`; None: none."""
        return Product if cls.second_hop else None

    @classmethod
    def write_second_step(cls, data: ChannelData, parts: list[Path], directory: Path) -> None:
        """Writes the second step: scores of neighbours and, by a weight, of their neighbours.

        Args:
            data: Training events and features.
            parts: Directories of the lists of ranges of candidates, in order.
            directory: Directory that the step is read from.
        """
        stack(parts, directory / "left")
        stack(parts, directory / "right", itself=cls.second_hop)
