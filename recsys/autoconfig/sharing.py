"""Sharing of tables where queries are items, too, such as pages that link to pages.

Where queries share the items' table, a query is never recommended to itself. So users must not be
taken for films only because both have the numbers 1 to n. Evidence that queries are items is

- ids that are names, at least half of which are ids of items; or,
- where ids are numbers, differ in numbers alone and have no word that says of what (`ID00042`,
  `2024-007`), or have one or two characters, a column of both tables that has the same value for
  the same id, for at least 95 % of the ids, and far more often than by chance. The column must not
  follow from the number itself, as an index does, or `row 7`, or what a formula gives: the same
  value for every third number, or for the first twenty.
"""

import re
from collections import Counter
from collections.abc import Collection
from operator import eq, ne
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.core.arrow import id_strings
from feature_store.kinds import Feature, IdFeature, TokenFeature
from pipelines.logs.sampling import ParquetTable
from recsys.autoconfig import rules
from recsys.autoconfig.columns.roles import Roles
from recsys.autoconfig.features import Choice
from recsys.autoconfig.figures import percent
from recsys.config.yaml_writer import scalar

_LOOKED_UP = 20_000
# Ids that both users and films can have by chance: numbers, and short codes.
_NUMBER = r"^[+-]?\d+(\.0*)?$|^.{0,2}$"
# Ids that differ in numbers alone are at least this many.
_ALIKE_FROM = 3
# A word says of what the number is: `page 7` of both sides is one page.
_WORD = r"\pL{3}"
# Longest period of values by the number of their id that is looked for.
_LONGEST_PERIOD = 100
# Settings that only the owner of a shared table has.
_OF_OWNER = {"shares", "dim", "min_count", "max_vocabulary", "hash_buckets"}


def queries_are_items(
    events: ParquetTable,
    items: ParquetTable | None,
    queries: ParquetTable | None,
    roles: Roles,
    bookkeeping: Collection[str] = (),
) -> str | None:
    """Returns the figures that show that queries are items; None where it is not certain.

    Args:
        events: Log of events.
        items: Items, if there is a table.
        queries: Queries, if there is a table.
        roles: Columns of the ids.
        bookkeeping: Columns of items or queries that are no evidence.
    """
    used = pc.unique(id_strings(events.read(roles.query, _LOOKED_UP)[0].drop_null()))
    source = items if items is not None else events
    listed, _ = source.read(roles.key_of("item") if items is not None else roles.item)
    share = pc.mean(pc.is_in(used, value_set=id_strings(listed.drop_null()))).as_py() or 0.0
    if share < rules.QUERIES_ARE_ITEMS_FROM:
        return None
    figure = f"{percent(share)} of query ids are items"
    if pc.mean(_are_numbers(used)).as_py() <= 1 - rules.QUERIES_ARE_ITEMS_FROM:
        return figure
    column = _same_in_both(items, queries, roles, bookkeeping)
    return None if column is None else f"{figure}, with the same {scalar(column)}"


def _are_numbers(ids: pa.Array) -> pa.Array:
    """Returns which ids are numbers or short, or differ in numbers alone from others, [ids]."""
    patterns = pc.replace_substring_regex(ids, r"\d+", "0").dictionary_encode()
    counts = np.bincount(patterns.indices.to_numpy(), minlength=len(patterns.dictionary))
    have_word = pc.match_substring_regex(patterns.dictionary, _WORD)
    have_number = pc.match_substring(patterns.dictionary, "0")
    are_many = pa.array(counts >= _ALIKE_FROM)
    are_alike = pc.and_not(pc.and_(are_many, have_number), have_word)
    return pc.or_(pc.match_substring_regex(ids, _NUMBER), are_alike.take(patterns.indices))


def sharing(
    item_choices: list[Choice], query_choices: list[Choice], roles: Roles, figure: str
) -> list[Choice]:
    """Returns the queries' choices, where those with a namesake among the items read its table."""
    owners = {choice.name: choice.feature for choice in item_choices}
    own_id = owners[roles.item]
    assert isinstance(own_id, IdFeature)
    shared_id = IdFeature(name=roles.query, dim=own_id.dim, shares=f"item.{roles.item}")
    others = [choice for choice in query_choices if choice.name != roles.query]
    return [
        Choice(roles.query, shared_id, figure),
        *(_shared(choice, owners.get(choice.name)) for choice in others),
    ]


def _shared(choice: Choice, owner: Feature | None) -> Choice:
    feature = choice.feature
    if not isinstance(feature, TokenFeature) or type(feature) is not type(owner):
        return choice
    own: dict[str, Any] = feature.model_dump(include=feature.model_fields_set - _OF_OWNER)
    shared = type(feature)(**own, dim=owner.dim, shares=f"item.{owner.name}")
    return Choice(choice.name, shared, "as of items")


def _same_in_both(
    items: ParquetTable | None,
    queries: ParquetTable | None,
    roles: Roles,
    bookkeeping: Collection[str],
) -> str | None:
    """Returns a column that shows that equal ids are the same thing; None where there is none."""
    if items is None or queries is None:
        return None
    keys = [roles.key_of("item"), roles.key_of("query")]
    for name in items.schema.names:
        if name in (*keys, *bookkeeping) or name not in queries.schema.names:
            continue
        if items.schema.field(name).type == queries.schema.field(name).type:
            left, right = (
                _by_id(table, column, name)
                for table, column in zip((items, queries), keys, strict=True)
            )
            ids = sorted(left.keys() & right.keys(), key=_order)
            if _is_evidence(ids, [left[key] for key in ids], [right[key] for key in ids]):
                return name
    return None


def _by_id(table: ParquetTable, id_column: str, name: str) -> dict[str, str]:
    rows = pa.concat_tables(table.sample([id_column, name], _LOOKED_UP))
    ids, values = id_strings(rows[id_column]).to_pylist(), rows[name].to_pylist()
    known = zip(ids, values, strict=True)
    return {key: str(value) for key, value in known if key is not None and value is not None}


def _order(number: str) -> tuple[float, str]:
    """Returns the key that sorts ids as numbers where they are numbers."""
    return (float(number), "") if re.fullmatch(r"-?\d+(\.\d*)?", number) else (np.inf, number)


def _is_evidence(ids: list[str], left: list[str], right: list[str]) -> bool:
    """Returns whether equal ids have equal values, more often than chance and formulas explain.

    Args:
        ids: Common ids, sorted.
        left: Values of the items.
        right: Values of the queries.
    """
    from scipy.stats import binom

    equal = sum(a == b for a, b in zip(left, right, strict=True))
    if not ids or equal < rules.SAME_VALUES_FROM * len(ids):
        return False
    counts = Counter(right)
    chance = sum(n * counts[value] for value, n in Counter(left).items()) / len(ids) ** 2
    if _follows(ids, left, chance):
        return False
    return bool(binom.sf(equal - 1, len(ids), chance) < rules.SAME_BY_CHANCE_P)


def _follows(ids: list[str], values: list[str], chance: float) -> bool:
    """Returns whether values follow from the numbers of the ids.

    Each value holds its number; or the values are in the order of the numbers; or they are equal
    for numbers that are equal modulo some number.

    Args:
        ids: Ids, sorted.
        values: Value of each id.
        chance: Probability that two ids have the same value by chance.
    """
    digits = [re.sub(r"\D", "", value).lstrip("0") for value in values]
    own = [re.sub(r"\D", "", key).lstrip("0") for key in ids]
    if sum(map(eq, digits, own)) >= rules.SAME_VALUES_FROM * len(ids):
        return True
    distinct = len(set(values))
    changes = sum(map(ne, values[1:], values))
    if 2 * distinct <= len(ids) and changes < distinct:
        return True
    if _are_sorted(values):
        return True
    numbers = [int(key) if key.isdecimal() else place for place, key in enumerate(ids)]
    for m in range(2, min(len(ids) - 1, _LONGEST_PERIOD) + 1):
        rests = len({number % m for number in numbers})
        is_rule = 3 * m <= len(ids) or chance ** (len(ids) - rests) < rules.SAME_BY_CHANCE_P
        pairs = {(number % m, value) for number, value in zip(numbers, values, strict=True)}
        if is_rule and len(pairs) <= rests:
            return True
    return False


def _are_sorted(values: list[str]) -> bool:
    """Returns whether values are numbers that only rise, or only fall."""
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        return False
    steps = np.diff(numbers)
    return bool((steps >= 0).all() or (steps <= 0).all())
