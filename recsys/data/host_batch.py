"""One training step's input for one rank, as numpy arrays.

Kept apart from `recsys.data.batch`, so that the tasks that build batches need no torch.
"""

from dataclasses import dataclass

from feature_store.core.columns import Bools, Floats, Ints


@dataclass(frozen=True)
class HostBatch:
    """Stacked rows, so that one sparse lookup serves candidates, views and histories.

    Three examples (B = 3) of a step with one more negative (K = 4), two views of two items (V = 2,
    S = 2), and histories of two distinct items (U = 2). A bag `[a b]` holds the rows of a table
    that are pooled into one vector; `[]` is an absent or hidden value:

        row              0     1    2    3  |  4    5  |  6    7  |  8     9
        block            candidates K       |  view 0  |  view 1  |  history U
        item.genres      [a b] [c]  []   [d]|  [a]  [] |  []   [c]|  [c]   [e f]
        query.country    [x]   [y]  [x]  [] |  []   [] |  []   [] |  []    []

        lengths          2 1 0 1  1 0  0 1  1 2        genres, in row 0 of `lengths`
                         1 1 1 0  0 0  0 0  0 0        country, in row 1
        values           a b c d a c c e f   x y x     key by key, row by row
        weights          one number for each value; the weights of a bag sum to 1

        history          0 1 1         rows of the history block: the examples' histories are
        history_offsets  0 2 2 3       [0 1], [] and [1]

    The B examples' own items come first among the candidates, unless the candidates are a part of
    the corpus, which holds them anyway. Query and context features have values in the first B rows
    alone. Rows of the history block follow until there is a row for every query.

    All ranks have equally many examples, candidates and view items. The last ranks are padded with
    rows that have item -1, no query and weight 0, and are never used as negatives.

    Attributes:
        values: [total] int64, table rows of all keys; the order of keys is `BatchBuilder.keys()`.
        weights: [total] float32.
        lengths: [keys, rows] int32.
        item_dense: [rows, width] float32, the dense item features side by side.
        item_dense_present: [rows, dense item features] bool.
        query_dense: [B, width] float32.
        query_dense_present: [B, dense query features] bool.
        context_dense: [B, width] float32.
        context_dense_present: [B, dense context features] bool.
        history: [elements] int64, history items as rows of the history block.
        history_offsets: [histories + 1] int64; a history belongs to one example, or to several.
        read: [B] int64, the latest history element that the example sees, -1 for none; see
            `recsys.model.history`.
        items: [B] int64, the examples' own items.
        weight: [B] float32, the examples' weights, scaled up where there is padding.
        candidates: [K] int64, items that this rank encodes; see `recsys.data.candidates`.
        log_q: [K] float32, log-probability that a training example's item is this one.
        uniform: [2] float32, the fraction of all ranks' candidates that is drawn uniformly, and the
            probability of each item in such a draw.
        targets: [B] int64, the column of the example's own item among all ranks' candidates.
        accidental_hits: [n, 2] int64, example and column of a candidate that must not count as its
            negative, because it is another positive of the example or padding; never the target.
            Examples ascend.
        view_items: [V, S] int64, the items that the views of self-supervision show; -1 is padding.
        view_hidden: [V, item features] bool, the features that each view hides.
        view_key: [1] int64, key of the random numbers of self-supervision in this step.
    """

    values: Ints
    weights: Floats
    lengths: Ints
    item_dense: Floats
    item_dense_present: Bools
    query_dense: Floats
    query_dense_present: Bools
    context_dense: Floats
    context_dense_present: Bools
    history: Ints
    history_offsets: Ints
    read: Ints
    items: Ints
    weight: Floats
    candidates: Ints
    log_q: Floats
    uniform: Floats
    targets: Ints
    accidental_hits: Ints
    view_items: Ints
    view_hidden: Bools
    view_key: Ints

    @property
    def num_rows(self) -> int:
        """Number of stacked rows."""
        return self.lengths.shape[1]

    @property
    def history_rows(self) -> int:
        """U of this rank, before ranks agree on the largest.

        At least 1, so that there is a row to read where every history is empty.
        """
        return max(1, self.num_rows - len(self.candidates) - self.view_items.size)
