"""A made log of any size, for benchmarks and tests: `recsys generate -o DIR`.

Everything about an event, an item or a query is a function of the seed and its number, so that a
log is the same however it is cut into blocks, and only one block is in memory at a time.
"""

import math
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_store.columns import Ints
from feature_store.errors import UserError
from feature_store.history import hash_uniform
from feature_store.storage import directory_written_atomically

Floats = npt.NDArray[np.float64]
Progress = Callable[[str], None]

BLOCK = 1_000_000
BLOCKS_PER_LINE = 5

START = 1_704_067_200  # 2024-01-01T00:00:00Z
DAY = 86_400
DAYS = 366

MAX_GROUPS = 64
ITEM_EXPONENT = 0.9
GROUP_EXPONENT = 0.5
QUERY_EXPONENT = 0.5
PREFERRED_SHARE = 0.8
FIRST_GROUP_SHARE = 0.6  # of the events in a preferred group

BRANDS_PER_GROUP = 8
OWN_BRAND_SHARE = 0.8
MISSING_SHARE = 0.05
WORDS_PER_SLOT = 4
GENERIC_WORDS = 40
TAG_SHARE = 0.6  # each of five tags is there or not, so that one item in a hundred has none
# fmt: off
COUNTRIES = (
    "US", "IN", "BR", "DE", "JP", "GB", "FR", "MX", "ID", "TR", "IT", "ES", "PL", "CA", "NL", "KR",
    "AU", "SE", "CH", "NO",
)
SYLLABLES = (
    "ba", "ce", "do", "fi", "gu", "ha", "je", "ko", "li", "mu", "na", "pe", "ro", "si", "tu", "va",
    "we", "xo", "yi", "zu",
)
# fmt: on

EVENTS = pa.schema(
    [
        pa.field("query_id", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("timestamp", pa.int64(), nullable=False),
    ]
)
ITEMS = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("title", pa.string(), nullable=False),
        pa.field("category", pa.string(), nullable=False),
        pa.field("brand", pa.string()),
        pa.field("tags", pa.list_(pa.string()), nullable=False),
        pa.field("price", pa.float64(), nullable=False),
    ]
)
QUERIES = pa.schema(
    [
        pa.field("query_id", pa.string(), nullable=False),
        pa.field("country", pa.string(), nullable=False),
        pa.field("age", pa.int64()),
    ]
)


@dataclass(frozen=True)
class Log:
    """What a made log depends on.

    Item `i` is in group `i % groups`, where it is the `i // groups`-th to arrive, so that lower
    numbers are older. Group `g` is in category `g % categories`.
    """

    events: int
    items: int
    queries: int
    seed: int = 0

    @property
    def groups(self) -> int:
        """Groups of items of one taste, which `title`, `brand`, `tags` and `price` tell of."""
        return max(1, min(MAX_GROUPS, self.items // 4))

    @property
    def categories(self) -> int:
        """Categories, each the parent of about four groups."""
        return max(1, self.groups // 4)

    def group_size(self, group: Ints) -> Ints:
        """Items of each group, whether they have arrived or not."""
        return self.items // self.groups + (group < self.items % self.groups).astype(np.int64)

    def uniform(self, what: str, number: Ints) -> Floats:
        """A draw in [0, 1) for each number, independent of the draws for any other `what`."""
        return hash_uniform(self.seed, zlib.crc32(what.encode()), number)

    def below(self, what: str, number: Ints, size: Ints | int) -> Ints:
        """Like `uniform`, an integer in [0, size)."""
        return (self.uniform(what, number) * size).astype(np.int64)


def generate(
    output: Path,
    *,
    events: int,
    items: int,
    queries: int,
    seed: int = 0,
    progress: Progress = print,
) -> Path:
    """Writes a made log to the directory `output`, whole or not at all.

    Items, groups of items and queries follow power laws; each query prefers two groups, which the
    features of items and queries tell of; a tenth of the items is there from the start, the others
    arrive over the year 2024. Events are in the order of time, over the files too.

    Args:
        output: Directory to make: `events/part-*.parquet`, `items.parquet`, `queries.parquet`.
        events: Rows of the log; the memory that is used does not depend on it.
        items: Rows of `items.parquet`; those of the tail may have no event.
        queries: Rows of `queries.parquet`, likewise.
        seed: Another seed gives another log of the same kind.
        progress: Called with one line at a time.

    Returns:
        The absolute path of `output`.

    Raises:
        UserError: A number is not positive, or `output` is in use or not writable.
    """
    for name, number in (("events", events), ("items", items), ("queries", queries)):
        if number < 1:
            raise UserError(f"{name} is {number}; give a whole number of at least 1.")
    output = output.resolve()
    log = Log(events=events, items=items, queries=queries, seed=seed)
    start = time.monotonic()
    try:
        if output.exists() and (not output.is_dir() or any(output.iterdir())):
            raise UserError(f"{output} already exists; delete it or choose another -o.")
        with directory_written_atomically(output) as directory:
            _write_table(directory / "items.parquet", ITEMS, items, log, items_block)
            _write_table(directory / "queries.parquet", QUERIES, queries, log, queries_block)
            _write_events(directory / "events", log, progress)
    except OSError as error:
        raise UserError(f"cannot write {output} ({error}); choose another -o.") from error
    progress(
        f"made {events:,} events, {items:,} items and {queries:,} queries in {output} "
        f"({time.monotonic() - start:.1f} s)"
    )
    return output


def _write_table(
    path: Path, schema: pa.Schema, rows: int, log: Log, block: Callable[[Log, Ints], pa.Table]
) -> None:
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for first in range(0, rows, BLOCK):
            writer.write_table(block(log, np.arange(first, min(first + BLOCK, rows))))


def _write_events(directory: Path, log: Log, progress: Progress) -> None:
    directory.mkdir()
    start = time.monotonic()
    for part, first in enumerate(range(0, log.events, BLOCK)):
        end = min(first + BLOCK, log.events)
        path = directory / f"part-{part:05d}.parquet"
        pq.write_table(events_block(log, np.arange(first, end)), path, compression="zstd")
        if (part + 1) % BLOCKS_PER_LINE == 0:
            rate = end / (time.monotonic() - start)
            progress(f"{end:,} of {log.events:,} events ({rate:,.0f} a second)")


def events_block(log: Log, event: Ints) -> pa.Table:
    """The events of these numbers, with the schema EVENTS."""
    elapsed = (event + log.uniform("event time", event)) * (DAYS * DAY / log.events)
    # Rounding may carry the last event of a large log over the end of the year.
    second = np.minimum(elapsed.astype(np.int64), DAYS * DAY - 1)

    activity = power_law(log.uniform("event query", event), log.queries, QUERY_EXPONENT)
    query = _scattered(activity, np.int64(log.queries))
    first_group, second_group = preferred_groups(log, query)
    choice = log.uniform("event group", event)
    group = np.where(choice < PREFERRED_SHARE * FIRST_GROUP_SHARE, first_group, second_group)
    any_group = power_law(log.uniform("event any group", event), log.groups, GROUP_EXPONENT)
    group = np.where(choice < PREFERRED_SHARE, group, any_group)

    size = log.group_size(group)
    rank = power_law(log.uniform("event item", event), size, ITEM_EXPONENT)
    shift = log.below("group shift", group, size)
    wanted = (_scattered(rank, size) + shift) % size
    place = arrived(log, group, wanted, arrivals(size, second // DAY))
    return pa.table(
        [_ids("q", query), _ids("i", place * log.groups + group), START + second], schema=EVENTS
    )


def power_law(uniform: Floats, size: Ints | int, exponent: float) -> Ints:
    """Ranks in [0, size) with a density of about (rank + 1) ** -exponent, by inverse transform.

    Args:
        uniform: [draws] in [0, 1).
        size: [draws], or one size for all.
        exponent: Above 0, not 1.
    """
    power = 1.0 - exponent
    top = np.power(np.asarray(size, np.float64) + 1.0, power)
    value = np.power(1.0 + uniform * (top - 1.0), 1.0 / power)
    return np.minimum(value.astype(np.int64) - 1, np.asarray(size) - 1)


def _scattered(rank: Ints, size: Ints | np.int64) -> Ints:
    """Maps ranks in [0, size) one to one, so that neighbours in rank are far apart.

    Popular items so arrive all through the year. Needs no table: it multiplies by about the golden
    ratio, which must have no divisor in common with the size.
    """
    sizes, inverse = np.unique(size, return_inverse=True)
    factors = np.array([_coprime_near_golden(int(n)) for n in sizes])
    return (rank * factors[inverse].reshape(np.shape(size))) % size


def _coprime_near_golden(size: int) -> int:
    factor = max(1, round(size * (math.sqrt(5) - 1) / 2))
    while math.gcd(factor, size) != 1:
        factor += 1
    return factor


def arrivals(size: Ints, day: Ints) -> Ints:
    """How many of a group's `size` items are there on `day`: a tenth on day 0, all on the last."""
    last = DAYS - 1
    return np.maximum(1, size * (last + 9 * day) // (10 * last))


def first_day(log: Log, item: Ints) -> Ints:
    """The first day in [0, DAYS) on which an item can have an event: the inverse of `arrivals`."""
    size, place, last = log.group_size(item % log.groups), item // log.groups, DAYS - 1
    day = -((size * last - 10 * last * (place + 1)) // (9 * size))
    return np.where(place == 0, 0, np.maximum(0, day))


def arrived(log: Log, group: Ints, place: Ints, count: Ints) -> Ints:
    """Puts in the place of an item that has not arrived an older one of its group.

    Which one is drawn once for each item, not for each event: a new item takes over a part of the
    demand for one that was there, and no other changes.

    Args:
        log: Of these items.
        group: [draws].
        place: [draws] of the item in the order of arrival of its group.
        count: [draws] of the group's items that have arrived, at least 1.

    Returns:
        [draws] places, each below `count`.
    """
    place = place.copy()
    missing = np.flatnonzero(place >= count)
    while len(missing):
        item = place[missing] * log.groups + group[missing]
        place[missing] = log.below("item stand-in", item, place[missing])
        missing = missing[place[missing] >= count[missing]]
    return place


def preferred_groups(log: Log, query: Ints) -> tuple[Ints, Ints]:
    """The two groups that a query prefers, [queries] each; different if there are two."""
    first = power_law(log.uniform("query first group", query), log.groups, GROUP_EXPONENT)
    step = 1 + log.below("query second group", query, max(1, log.groups - 1))
    return first, (first + step) % log.groups


def items_block(log: Log, item: Ints) -> pa.Table:
    """The items of these numbers, with the schema ITEMS."""
    group = item % log.groups
    category = group % log.categories
    brand_group = np.where(
        log.uniform("brand is own", item) < OWN_BRAND_SHARE,
        group,
        log.below("brand group", item, log.groups),
    )
    rank = power_law(log.uniform("brand rank", item), BRANDS_PER_GROUP, ITEM_EXPONENT)
    brand = brand_group * BRANDS_PER_GROUP + rank
    has_no_brand = log.uniform("brand missing", item) < MISSING_SHARE

    group_level = 1.0 + 3.0 * log.uniform("price group", group)
    noise = log.uniform("price a", item) + log.uniform("price b", item) - 1.0
    price = np.exp(group_level + 0.8 * log.uniform("price brand", brand) + noise)
    return pa.table(
        [
            _ids("i", item),
            _titles(log, item, group, category),
            _words("line", log.categories).take(category),
            _words("brand", log.groups * BRANDS_PER_GROUP).take(pa.array(brand, mask=has_no_brand)),
            _tags(log, item, group, category),
            np.round(price, 2),
        ],
        schema=ITEMS,
    )


def _titles(log: Log, item: Ints, group: Ints, category: Ints) -> pa.Array:
    """A word of any item, one of the group's and one of the category's."""
    words = [
        _words("", GENERIC_WORDS).take(log.below("title any", item, GENERIC_WORDS)),
        _slot_words("g", log, "title group", item, group, log.groups),
        _slot_words("c", log, "title category", item, category, log.categories),
    ]
    return pc.binary_join_element_wise(*words, " ")


def _tags(log: Log, item: Ints, group: Ints, category: Ints) -> pa.Array:
    """Up to five different tags: two of the group, two of the category, one of any item."""
    slots = [
        _slot_words("group-a-", log, "tag 0", item, group, log.groups),
        _slot_words("group-b-", log, "tag 1", item, group, log.groups),
        _slot_words("category-a-", log, "tag 2", item, category, log.categories),
        _slot_words("category-b-", log, "tag 3", item, category, log.categories),
        _words("any-", GENERIC_WORDS).take(log.below("tag 4", item, GENERIC_WORDS)),
    ]
    has = np.stack([log.uniform(f"has tag {k}", item) < TAG_SHARE for k in range(len(slots))], 1)
    rows, columns = np.nonzero(has)
    values = pa.concat_arrays(slots).take(columns * len(item) + rows)
    offsets = np.concatenate([[0], np.cumsum(has.sum(axis=1))]).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, values)


def queries_block(log: Log, query: Ints) -> pa.Table:
    """The queries of these numbers, with the schema QUERIES."""
    first_group, second_group = preferred_groups(log, query)
    country = np.where(
        log.uniform("country is of group", query) < 0.5,
        log.below("country of group", first_group, len(COUNTRIES)),
        power_law(log.uniform("country", query), len(COUNTRIES), ITEM_EXPONENT),
    )
    noise = log.uniform("age a", query) + log.uniform("age b", query) - 1.0
    age = 26 + log.below("age of group", second_group, 40) + np.round(10 * noise).astype(np.int64)
    has_no_age = log.uniform("age missing", query) < MISSING_SHARE
    return pa.table(
        [_ids("q", query), pa.array(COUNTRIES).take(country), pa.array(age, mask=has_no_age)],
        schema=QUERIES,
    )


def _ids(prefix: str, number: Ints) -> pa.Array:
    return pc.binary_join_element_wise(prefix, pc.cast(pa.array(number), pa.string()), "")


def _words(prefix: str, count: int) -> pa.Array:
    """Different made words."""
    return pa.array([prefix + _word(number) for number in range(count)])


def _word(number: int) -> str:
    base = len(SYLLABLES)
    head, last = divmod(number, base)
    return (_word(head) if head >= base else SYLLABLES[head]) + SYLLABLES[last]


def _slot_words(prefix: str, log: Log, what: str, item: Ints, owner: Ints, owners: int) -> pa.Array:
    """For each item one of the few words of its owner (a group or a category)."""
    rank = log.below(what, item, WORDS_PER_SLOT)
    return _words(prefix, owners * WORDS_PER_SLOT).take(owner * WORDS_PER_SLOT + rank)
