"""Links: the graph of queries that are items, such as pages that link to pages."""

import numpy as np
from scipy import sparse

from recsys.channels.channel import Channel, ChannelData
from recsys.channels.co_occurrence import normalised
from recsys.channels.product import Product


class Links(Channel):
    """Pages that are linked with the query's own page in either direction, or over one other."""

    name = "links"
    lists = "links"
    title = "links"
    reads = "own"
    second_hop = 1.0

    @classmethod
    def why_not(cls, data: ChannelData) -> str | None:
        """Returns why the data has no such channel, as the end of a sentence; None: it has."""
        return None if data.queries_are_items else "queries are no items"

    @classmethod
    def product(cls, data: ChannelData) -> Product:
        """Returns the normalised links of both directions."""
        links = training_links(data)
        both = (links + links.T).tocsr()
        return normalised(Product(both, sparse.identity(both.shape[0], np.float32, "csr")))


def training_links(data: ChannelData) -> sparse.csr_matrix:
    """Returns the binary matrix of links among training events, [from, to] float32."""
    own, items = data.prepared.own_items, data.log.items
    page = np.full(len(own), -1)
    page[own.lengths > 0] = own.values[own.offsets[:-1][own.lengths > 0]]
    source = page[items.row_of_value()]
    known = (source >= 0) & (source != items.values)
    at = (source[known], items.values[known])
    count = data.log.num_items
    links = sparse.csr_matrix((np.ones(int(known.sum()), np.float32), at), (count, count))
    links.data[:] = 1.0
    return links
