"""Columns that describe the rows of a file and not what these are about.

An index that pandas wrote, the unnamed first column of a CSV file, a row number, the id or the time
of an ingestion. As features, they teach a model the order of the file. Names are not enough to tell
them (`index` may be a stock index), nor are numbers in order (the years of films sorted by year):
only names that no person gives count alone; other names need numbers that fit, and numbers alone
must count rows without gaps, under a name that no measure has.
"""

import re

from pipelines.logs.sampling import ParquetTable
from pipelines.profile.numbering import profile_numbering
from recsys.autoconfig import rules
from recsys.autoconfig.names import CODE_WORD, MEASURE_WORD, words_of

# Names of an index that nobody but a library gives.
_INDEX_NAME = re.compile(r"__index_level_\d+__|__null_dask_index__")
# Names that libraries give to columns without a name, the first of which is often an index.
_UNNAMED = re.compile(r"unnamed: ?_?\d+(\.\d+|_level_\d+)*|\.\.\.\d+")
# Such names that people give, too.
_SHORT_NAME = re.compile(r"_?c\d+|column_?\d+|level_\d+|x|[xv]\d+")
# Words in names of whatever loads the rows, which no property has.
_LOADER = re.compile("airbyte|dlt|elt|etl|fivetran|ingest(ed|ion|s)?|kafka|sdc")
# Words in names of what loads the rows, which may also be properties.
_LOADING = re.compile(
    "batch|checksum|crc|crawl(ed)?|dump|etag|export(ed)?|extract(ed)?|fetch(ed)?|hash|import(ed)?"
    "|insert(ed)?|load(ed)?|md5|offset|partition|process(ed)?|scrap(ed)?|sha|shard|snapshot"
    "|sync(ed)?"
)
# Names of counters.
_COUNTER = re.compile(
    "((source|original|orig|old|df|csv|file|table|raw)?"
    "(entry|event|interaction|line|log|obs|observation|rec|record|row|sample|seq|sequence|serial)?s?"
    "(counter|id|idx|index|ix|key|nbr|no|nr|num|number|pk|row|rownum|seq|sequence|serial|sk)"
    "|ctid|oid|ordinal|rn|rid|surrogatekey|autoincrement)"
)


def bookkeeping(table: ParquetTable) -> dict[str, str]:
    """Finds the columns of bookkeeping, and the reason for each.

    Args:
        table: Events, items or queries.
    """
    found = {name: _reason(table, name) for name in table.schema.names}
    return {name: reason for name, reason in found.items() if reason is not None}


def is_index_name(name: str) -> bool:
    """Returns whether only a library gives this name, to an index."""
    return _INDEX_NAME.fullmatch(_last(name)) is not None


def _reason(table: ParquetTable, name: str) -> str | None:
    words = words_of(name)
    if any(_LOADER.fullmatch(word) for word in words):
        return "written by whoever loaded the rows"
    numbers = profile_numbering(table, name)
    if numbers is None:
        return None
    if is_index_name(name):
        return "an index"
    is_unique = numbers.unique >= rules.KEY_FROM
    last = _last(name)
    if (name in table.index or _UNNAMED.fullmatch(last)) and (is_unique or numbers.rises):
        return "an index"
    if _SHORT_NAME.fullmatch(last) and (numbers.rises or numbers.permutes):
        return "an index"
    if _COUNTER.fullmatch("".join(words)) and (is_unique or numbers.rises):
        return "a number of rows"
    is_measure = any(MEASURE_WORD.fullmatch(word) for word in words)
    is_loading = any(_LOADING.fullmatch(word) for word in words) or last.startswith("_")
    if is_loading and (numbers.times or (not is_measure and (is_unique or numbers.rises))):
        return "written by whoever loaded the rows"
    if is_measure or any(CODE_WORD.fullmatch(word) for word in words):
        return None
    if not numbers.times and (numbers.counts or numbers.permutes):
        return "a number of rows"
    if not numbers.times and numbers.long and is_unique:
        return "long numbers that name rows"
    return None


def _last(name: str) -> str:
    """Returns the last part of the name of a column that is inside others, in lower case."""
    return name.lower() if "..." in name else name.lower().rpartition(".")[2] or name.lower()
