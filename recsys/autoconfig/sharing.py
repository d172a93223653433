"""Sharing of tables where queries are items, too, such as pages that link to pages."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from feature_store.core.arrow import id_strings
from feature_store.kinds import Feature, IdFeature, TokenFeature
from pipelines.logs.sampling import ParquetTable
from recsys.autoconfig import rules
from recsys.autoconfig.features import Choice, percent
from recsys.autoconfig.roles import Roles

_LOOKED_UP = 20_000
# Settings that only the owner of a shared table has.
_OF_OWNER = {"shares", "dim", "min_count", "max_vocabulary", "hash_buckets"}


def queries_are_items(
    events: ParquetTable, items: ParquetTable | None, queries: ParquetTable | None, roles: Roles
) -> str | None:
    """Returns the figure that shows that queries are items; None where it is not certain.

    A number may name both a user and a film, so equal numbers are no sign: then rows of both tables
    with the same id must also have the same values.

    Args:
        events: Log of events.
        items: Items, if there is a table.
        queries: Queries, if there is a table.
        roles: Columns of the ids.
    """
    used = pc.unique(id_strings(events.read(roles.query, _LOOKED_UP)[0].drop_null()))
    source = items if items is not None else events
    listed, _ = source.read(roles.item)
    share = pc.mean(pc.is_in(used, value_set=id_strings(listed.drop_null()))).as_py() or 0.0
    if share < rules.QUERIES_ARE_ITEMS_FROM:
        return None
    numbers = pc.mean(pc.match_substring_regex(used, r"^\d+$")).as_py()
    if numbers > 1 - rules.QUERIES_ARE_ITEMS_FROM and not _agree(items, queries, roles):
        return None
    return f"{percent(share)} of query ids are items"


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


def _agree(items: ParquetTable | None, queries: ParquetTable | None, roles: Roles) -> bool:
    """Returns whether rows of both tables with the same id also have the same values."""
    if items is None or queries is None:
        return False
    shared = set(items.schema.names) & set(queries.schema.names) - {roles.item, roles.query}
    columns = sorted(n for n in shared if items.schema.field(n) == queries.schema.field(n))
    if not columns:
        return False
    left, right = (
        _by_id(table, name, columns)
        for table, name in ((items, roles.item), (queries, roles.query))
    )
    common = sorted(left.keys() & right.keys())
    equal = sum(left[key] == right[key] for key in common)
    return len(common) > 0 and equal >= rules.SAME_VALUES_FROM * len(common)


def _by_id(table: ParquetTable, name: str, columns: list[str]) -> dict[str, tuple[Any, ...]]:
    rows = pa.concat_tables(table.sample([name, *columns], _LOOKED_UP))
    ids = id_strings(rows[name]).to_pylist()
    values = zip(*(rows[column].to_pylist() for column in columns), strict=True)
    return dict(zip(ids, values, strict=True))
