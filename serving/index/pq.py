"""Short codes of all items, of which the best candidates are scored again."""

from serving.index.ivf_pq import IvfPq


class Pq(IvfPq):
    """The codes of `ivf_pq` in one list, which every search scans as a whole.

    Nothing is missed but by the codes' rounding, wherever queries lie, and a catalogue never
    outgrows its lists; time grows with the number of items.
    """

    name = "pq"

    @classmethod
    def list_count(cls, items: int) -> int:
        """Returns 1."""
        return 1
