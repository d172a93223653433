"""Co-occurrence: items that the same queries have."""

import numpy as np

from recsys.channels.channel import Channel, ChannelData
from recsys.channels.product import Product

# Latest events of a query that count: pairs grow with the square.
MOST_EVENTS = 500


class CoOccurrence(Channel):
    """Common queries of two items, over the root of the common queries that each has in all."""

    name = "co_occurrence"
    lists = "co_occurrence"
    title = "co-occurrence"
    is_baseline = True

    @classmethod
    def product(cls, data: ChannelData) -> Product:
        """Returns the normalised counts of common queries."""
        seen = data.log.seen(MOST_EVENTS)
        return normalised(Product(seen.T.tocsr(), seen))


def normalised(product: Product) -> Product:
    """Divides each score by the roots of the sums of scores of its two items."""
    candidates, sources = (1 / np.sqrt(np.maximum(sums, 1e-12)) for sums in product.sums())
    return product.scaled(candidates, sources)
