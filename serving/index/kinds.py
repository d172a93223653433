"""The kinds of index, by name, and the one that suits a catalogue."""

from feature_store.core.errors import UserError
from serving.index.flat import Flat
from serving.index.hnsw import Hnsw
from serving.index.ivf_pq import IvfPq
from serving.index.kind import IndexKind
from serving.index.pq import Pq

KINDS: dict[str, type[IndexKind]] = {kind.name: kind for kind in (Flat, Hnsw, Pq, IvfPq)}

# To compare so many items takes a millisecond or two, so that lists would save nothing that a
# request notices; and exact search is exact with filters, too.
_FLAT_UP_TO = 50_000


def kind_named(name: str) -> type[IndexKind]:
    """Returns the kind of a bundle's index.

    Raises:
        UserError: This version has no such kind.
    """
    if name not in KINDS:
        raise UserError(
            f"the bundle's index is of the kind {name!r}, which this version of recsys does not "
            f"have, but {', '.join(KINDS)}; export the model again."
        )
    return KINDS[name]


def kind_for(name: str, items: int) -> type[IndexKind]:
    """Returns the kind that `export.index` names for a catalogue.

    Args:
        name: A kind, or `auto`.
        items: Size of the catalogue.

    Raises:
        UserError: There are too few items for the kind.
    """
    if name == "auto":
        return Flat if items <= _FLAT_UP_TO else IvfPq
    kind = KINDS[name]
    if items < kind.min_items:
        raise UserError(
            f"export.index {name} needs at least {kind.min_items} items to learn from, but there "
            f"are {items}; set it to flat."
        )
    return kind
