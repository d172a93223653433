"""The reasons for which an index is not exported; `test_champion.py` has those of a model."""

import pytest

from feature_store.core.errors import UserError
from serving.exporting.gate import require_recall


def test_the_index_must_find_every_slice():
    require_recall({"head": 0.99, "tail": 0.95}, 0.95)
    with pytest.raises(UserError, match="tail items"):
        require_recall({"head": 0.99, "tail": 0.94}, 0.95)
