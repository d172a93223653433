"""The feature schema: the features of items, queries and events."""

from typing import Literal

from pydantic import Field, model_validator

from feature_store.core.manifests import fingerprint
from feature_store.core.settings import Settings
from feature_store.kinds import AnyFeature, ColumnFeature, ContextFeature, Feature, TimeFeature

Side = Literal["item", "query"]
SIDES: tuple[Side, ...] = ("item", "query")
FeatureGroup = Literal["item", "query", "context"]


class FeatureSchema(Settings):
    """The features of both sides and of the context; their order is the same everywhere.

    The context is what is known of an event beside its query and its item at the moment of the
    request: a device, the hour. What only becomes known afterwards, such as a rating, is not part
    of it: it would tell the model the answer in training, and be missing in a request.
    """

    item: tuple[Feature, ...] = Field(min_length=1)
    query: tuple[Feature, ...] = ()
    context: tuple[ContextFeature, ...] = Field((), description="Features of the events.")

    @property
    def queries_are_items(self) -> bool:
        """Whether the ids of queries are those of items, as of pages that link to pages."""
        return any(each.is_id and each.shared_table is not None for each in self.query)

    @model_validator(mode="after")
    def _names_are_distinct(self) -> "FeatureSchema":
        groups: tuple[FeatureGroup, ...] = ("item", "query", "context")
        for group in groups:
            names = [feature.name for feature in self.of(group)]
            for name in names:
                if names.count(name) > 1:
                    raise ValueError(f"the {group} feature {name!r} is listed twice; remove one")
            if sum(feature.is_id for feature in self.of(group)) > 1:
                raise ValueError(f"{group} has more than one feature of kind id; keep one")
        return self

    @model_validator(mode="after")
    def _shared_tables_exist(self) -> "FeatureSchema":
        owners = {qualified("item", f): f for f in self.item if f.is_sparse}
        groups: tuple[FeatureGroup, ...] = ("item", "query", "context")
        for group in groups:
            for feature in self.of(group):
                shared = feature.shared_table
                if shared is None:
                    continue
                where = f"the {group} feature {feature.name!r} shares {shared}"
                owner = owners.get(shared)
                if group == "item":
                    raise ValueError(f"{where}; only query and context features share; remove it")
                if owner is None:
                    raise ValueError(
                        f"{where}, which is no item feature with a table; expected one of: "
                        f"{', '.join(owners) or 'none'}"
                    )
                if owner.dim != feature.dim:
                    raise ValueError(f"{where}, whose dim is {owner.dim}; set its dim to that")
                if feature.is_id and not owner.is_id:
                    raise ValueError(f"{where}; an id shares an id's rows alone; remove shares")
                if feature.is_id and owner.has_vocabulary:
                    raise ValueError(
                        f"{where}, which not every item has (min_count, max_idle_days); remove "
                        "these keys or shares"
                    )
        return self

    @property
    def has_idle_values(self) -> bool:
        """Whether values leave a vocabulary."""
        every = (*self.item, *self.query, *self.context)
        return any(getattr(feature, "max_idle_days", None) is not None for feature in every)

    def side(self, side: Side) -> tuple[Feature, ...]:
        """Returns the features of one side, in order."""
        return self.item if side == "item" else self.query

    def of(self, group: FeatureGroup) -> tuple[AnyFeature, ...]:
        """Returns the features of a side or of the context, in order."""
        return self.context if group == "context" else self.side(group)

    def owner(self, feature: AnyFeature) -> AnyFeature:
        """Returns the item feature whose table a feature reads; itself where it shares none."""
        shared = feature.shared_table
        owners = (f for f in self.item if qualified("item", f) == shared)
        return feature if shared is None else next(owners)

    @property
    def context_columns(self) -> tuple[ColumnFeature, ...]:
        """The context features that are columns of the events."""
        return tuple(f for f in self.context if not isinstance(f, TimeFeature))

    def fingerprint(self) -> str:
        """Computes the schema's fingerprint in manifests, checkpoints and bundles."""
        return fingerprint(self.model_dump(mode="json"))


def qualified(group: FeatureGroup, feature: AnyFeature) -> str:
    """Returns the name of a feature's table and vocabulary, such as `item.genres`."""
    return f"{group}.{feature.name}"
