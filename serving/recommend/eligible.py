"""Items that may be an answer: all but those that were seen, are denied or are filtered out."""

import numpy as np

from feature_store.core.columns import Bools, Jagged
from pipelines.settings import Repeats
from serving.recommend.catalogue import Catalogue
from serving.recommend.filters.item_filters import ItemFilters
from serving.recommend.options import RecommendOptions


class Eligible:
    """Positions in the index that the options of a request leave.

    Args:
        catalogue: Items of the bundle.
        indexed: Number of items of the index.
        repeats: Whether items that a query has had are answers, unless a request says otherwise.
    """

    def __init__(self, catalogue: Catalogue, indexed: int, repeats: Repeats) -> None:
        self._catalogue = catalogue
        self._filters = ItemFilters(catalogue.filters, catalogue.positions, indexed)
        self._repeats = repeats

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the item features that answers can be filtered by."""
        return self._filters.features

    def excludes_seen(self, options: RecommendOptions) -> bool:
        """Tells whether items that a query has had are no answers."""
        if options.exclude_seen is None:
            return self._repeats == "exclude"
        return options.exclude_seen

    def excluded(self, items: Jagged, options: RecommendOptions) -> Jagged:
        """Returns the positions of the items and of denied ones, [queries]."""
        denied = self._catalogue.ids.rows(options.deny)
        if len(denied):
            denied = denied[denied >= 0]
            offsets = np.arange(len(items) + 1) * len(denied)
            items = items.beside(Jagged(np.tile(denied, len(items)), offsets))
        positions = Jagged(self._catalogue.positions[items.values], items.offsets)
        is_indexed = positions.values >= 0
        return positions if is_indexed.all() else positions.keep(is_indexed)

    def allowed(self, options: RecommendOptions) -> Bools | None:
        """Returns whether the filters leave an item, by position; None: they leave all."""
        if not options.where and options.allow is None:
            return None
        mask = self._filters.mask(options.where)
        if options.allow is None:
            return mask
        items = self._catalogue.ids.rows(options.allow)
        positions = self._catalogue.positions[items[items >= 0]]
        is_listed = np.zeros_like(mask)
        is_listed[positions[positions >= 0]] = True
        return mask & is_listed
