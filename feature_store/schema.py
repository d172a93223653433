"""The feature schema: which columns of items and queries are features, and of what kind."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from feature_store.storage import fingerprint


class Settings(BaseModel):
    """Base of every part of the configuration: closed and immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _Feature(Settings):
    name: str = Field(min_length=1, description="The column that holds the feature.")
    dim: int = Field(ge=4, le=1024, multiple_of=4, description="Columns of its embedding.")


class IdFeature(_Feature):
    """The item or query id itself: one row for each entry of the catalogue, in catalogue order."""

    kind: Literal["id"] = "id"


class _TokenFeature(_Feature):
    min_count: int = Field(1, ge=1, description="Rarer tokens share the out-of-vocabulary row.")
    max_vocabulary: int = Field(1_000_000, ge=1, description="Only the most frequent tokens.")
    hash_buckets: int | None = Field(
        None, ge=2, description="Hash tokens into this many rows instead of a vocabulary."
    )

    @model_validator(mode="after")
    def _one_encoding(self) -> "_TokenFeature":
        if self.hash_buckets is not None:
            for key in ("min_count", "max_vocabulary"):
                # Manifests list every key, so a default may be given.
                if getattr(self, key) == type(self).model_fields[key].default:
                    continue
                raise ValueError(
                    f"{key} has no effect on the hashed feature {self.name!r}; "
                    f"remove {key} or hash_buckets"
                )
        return self


class CategoricalFeature(_TokenFeature):
    """One value of a set: a string, an integer or a boolean."""

    kind: Literal["categorical"] = "categorical"


class MultiValuedFeature(_TokenFeature):
    """A list of values of a set, in no particular order."""

    kind: Literal["multi_valued"] = "multi_valued"


class TextFeature(_TokenFeature):
    """Free text, split into distinct lower-case words."""

    kind: Literal["text"] = "text"


class NumericFeature(_Feature):
    """A number, standardised with the mean and deviation of the catalogue."""

    kind: Literal["numeric"] = "numeric"
    scaling: Literal["standard", "log"] = Field(
        "standard", description="log: sign(x) log(1 + |x|) before it is standardised."
    )


class VectorFeature(_Feature):
    """A fixed-length vector, such as a precomputed text or image embedding."""

    kind: Literal["vector"] = "vector"
    length: int = Field(ge=1, le=16_384)


Feature = Annotated[
    IdFeature
    | CategoricalFeature
    | MultiValuedFeature
    | TextFeature
    | NumericFeature
    | VectorFeature,
    Field(discriminator="kind"),
]
TokenFeature = CategoricalFeature | MultiValuedFeature | TextFeature
SparseFeature = IdFeature | CategoricalFeature | MultiValuedFeature | TextFeature
DenseFeature = NumericFeature | VectorFeature

Side = Literal["item", "query"]


def is_sparse(feature: Feature) -> bool:
    """Whether a feature is looked up in an embedding table (and not projected from numbers)."""
    return not isinstance(feature, NumericFeature | VectorFeature)


def takes_several_values(feature: Feature) -> bool:
    """Whether one row can hold several values, so that value dropout applies."""
    return isinstance(feature, MultiValuedFeature | TextFeature)


class FeatureSchema(Settings):
    """The features of both sides; their order here is their order everywhere."""

    item: tuple[Feature, ...] = Field(min_length=1)
    query: tuple[Feature, ...] = ()

    @model_validator(mode="after")
    def _names_are_distinct(self) -> "FeatureSchema":
        for side in ("item", "query"):
            names = [feature.name for feature in self.side(side)]
            for name in names:
                if names.count(name) > 1:
                    raise ValueError(f"the {side} feature {name!r} is listed twice; remove one")
            if sum(isinstance(feature, IdFeature) for feature in self.side(side)) > 1:
                raise ValueError(f"{side} has more than one feature of kind id; keep one")
        return self

    def side(self, side: Side) -> tuple[Feature, ...]:
        """The features of one side, in order."""
        return self.item if side == "item" else self.query

    def fingerprint(self) -> str:
        """Identifies the schema in manifests, checkpoints and bundles."""
        return fingerprint(self.model_dump(mode="json"))


def qualified(side: Side, feature: Feature) -> str:
    """The name of a feature's table and vocabulary, such as `item.genres`."""
    return f"{side}.{feature.name}"
