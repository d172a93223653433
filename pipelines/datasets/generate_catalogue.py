"""The items and queries of a synthetic log, and their properties that its events depend on.

Every item and query is a function of the seed and its number.
"""

import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.core.columns import Ints
from feature_store.core.hashing import hash_uniform

Floats = npt.NDArray[np.float64]

MAX_GROUPS = 64
ITEM_EXPONENT = 0.9
GROUP_EXPONENT = 0.5

BRANDS_PER_GROUP = 8
OWN_BRAND_SHARE = 0.8
MISSING_SHARE = 0.05
WORDS_PER_SLOT = 4
GENERIC_WORDS = 40
TAG_SHARE = 0.6  # each of five tags is present or not; one item in a hundred has none
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
    """The parameters of a synthetic log.

    Item `i` is in group `i % groups`, where it is the `i // groups`-th to arrive, so that lower
    numbers are older. Group `g` is in category `g % categories`.

    Attributes:
        events: Number of events.
        items: Number of items.
        queries: Number of queries.
        seed: Seed of all draws.
    """

    events: int
    items: int
    queries: int
    seed: int = 0

    @property
    def groups(self) -> int:
        """Number of groups, each of one taste that shows in title, brand, tags and price."""
        return max(1, min(MAX_GROUPS, self.items // 4))

    @property
    def categories(self) -> int:
        """Number of categories, each the parent of about four groups."""
        return max(1, self.groups // 4)

    def group_size(self, group: Ints) -> Ints:
        """Counts the items of each group, whether they have arrived or not."""
        return self.items // self.groups + (group < self.items % self.groups).astype(np.int64)

    def uniform(self, what: str, number: Ints) -> Floats:
        """Draws from [0, 1) for each number, independently of the draws for any other `what`."""
        return hash_uniform(self.seed, zlib.crc32(what.encode()), number)

    def below(self, what: str, number: Ints, size: Ints | int) -> Ints:
        """Draws an integer from [0, size) for each number, as `uniform` does."""
        return (self.uniform(what, number) * size).astype(np.int64)


def power_law(uniform: Floats, size: Ints | int, exponent: float) -> Ints:
    """Draws ranks in [0, size) with density about (rank + 1) ** -exponent, by inverse transform.

    Args:
        uniform: Numbers in [0, 1), [draws].
        size: Sizes, [draws], or one size for all.
        exponent: Exponent above 0, not 1.
    """
    power = 1.0 - exponent
    top = np.power(np.asarray(size, np.float64) + 1.0, power)
    value = np.power(1.0 + uniform * (top - 1.0), 1.0 / power)
    return np.minimum(value.astype(np.int64) - 1, np.asarray(size) - 1)


def preferred_groups(log: Log, query: Ints) -> tuple[Ints, Ints]:
    """Draws the two groups that a query prefers, [queries] each; different if there are two."""
    first = power_law(log.uniform("query first group", query), log.groups, GROUP_EXPONENT)
    step = 1 + log.below("query second group", query, max(1, log.groups - 1))
    return first, (first + step) % log.groups


def items_block(log: Log, item: Ints) -> pa.Table:
    """Generates the items of these numbers, with the schema ITEMS."""
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
            id_column("i", item),
            _titles(log, item, group, category),
            _words("line", log.categories).take(category),
            _words("brand", log.groups * BRANDS_PER_GROUP).take(pa.array(brand, mask=has_no_brand)),
            _tags(log, item, group, category),
            np.round(price, 2),
        ],
        schema=ITEMS,
    )


def _titles(log: Log, item: Ints, group: Ints, category: Ints) -> pa.Array:
    """Draws a title of three words: a general one, one of the group and one of the category."""
    words = [
        _words("", GENERIC_WORDS).take(log.below("title any", item, GENERIC_WORDS)),
        _slot_words("g", log, "title group", item, group, log.groups),
        _slot_words("c", log, "title category", item, category, log.categories),
    ]
    return pc.binary_join_element_wise(*words, " ")


def _tags(log: Log, item: Ints, group: Ints, category: Ints) -> pa.Array:
    """Draws up to five different tags: two of the group, two of the category, a general one."""
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
    """Generates the queries of these numbers, with the schema QUERIES."""
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
        [id_column("q", query), pa.array(COUNTRIES).take(country), pa.array(age, mask=has_no_age)],
        schema=QUERIES,
    )


def id_column(prefix: str, number: Ints) -> pa.Array:
    """Formats ids such as `i42`."""
    return pc.binary_join_element_wise(prefix, pc.cast(pa.array(number), pa.string()), "")


def _words(prefix: str, count: int) -> pa.Array:
    """Generates different words."""
    return pa.array([prefix + _word(number) for number in range(count)])


def _word(number: int) -> str:
    base = len(SYLLABLES)
    head, last = divmod(number, base)
    return (_word(head) if head >= base else SYLLABLES[head]) + SYLLABLES[last]


def _slot_words(prefix: str, log: Log, what: str, item: Ints, owner: Ints, owners: int) -> pa.Array:
    """Draws for each item one of the few words of its owner (a group or a category)."""
    rank = log.below(what, item, WORDS_PER_SLOT)
    return _words(prefix, owners * WORDS_PER_SLOT).take(owner * WORDS_PER_SLOT + rank)
