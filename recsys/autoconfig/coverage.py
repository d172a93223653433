"""Events of items that the table of items lacks, which `recsys prepare` puts aside."""

import pyarrow as pa
import pyarrow.compute as pc

from feature_store.core.arrow import id_strings
from pipelines.logs.sampling import ParquetTable
from recsys.autoconfig.columns.roles import Roles

# Events whose items are looked up.
_LOOKED_UP = 200_000


def unlisted_share(events: ParquetTable, items: ParquetTable | None, roles: Roles) -> float:
    """Returns the share of events whose item the table lacks; 0 where it is not read whole."""
    if items is None:
        return 0.0
    column, is_whole = items.read(roles.key_of("item"))
    parts = [part[roles.item] for part in events.sample([roles.item], _LOOKED_UP)]
    used = id_strings(pa.chunked_array(parts)).drop_null() if parts else pa.array([], pa.string())
    if not is_whole or not len(used):
        return 0.0
    return float(1 - pc.mean(pc.is_in(used, value_set=id_strings(column.drop_null()))).as_py())
