"""The kinds of feature, and what others ask of them: `docs/features.md` describes each."""

from typing import Annotated, ClassVar, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, model_validator

from feature_store.core.bounds import EVENTS, MANY, ROWS
from feature_store.core.settings import Settings

_NgramLength = Annotated[int, Field(ge=1, le=10)]

# Forms of raw values: a string, integer or boolean; a list of these; words; a number; a list of
# numbers; a date.
Raw = Literal["token", "tokens", "text", "number", "numbers", "date"]


class _Feature(Settings):
    """Base class of the kinds of feature.

    The kinds answer the questions of other modules, so that these need not know every kind.

    Attributes:
        is_id: Whether the values are the catalogue's ids.
        has_several_values: Whether a row can hold several values, so that value dropout applies.
        why_not_given: Reason that a request cannot give a value, as the end of a sentence; empty
            where it can.
    """

    name: str = Field(min_length=1, description="The column that holds the feature.")
    dim: int = Field(ge=4, le=1024, multiple_of=4, description="Columns of its embedding.")

    is_id: ClassVar[bool] = False
    has_several_values: ClassVar[bool] = False
    why_not_given: ClassVar[str] = ""

    @property
    def is_sparse(self) -> bool:
        """Whether it is looked up in an embedding table, and not projected from numbers."""
        return True

    @property
    def dense_width(self) -> int:
        """Numbers of a row; 0 of a sparse feature."""
        return 0

    @property
    def shared_table(self) -> str | None:
        """The item feature whose table it reads, as `item.genres`; None: its own, or no table."""
        return None

    @property
    def has_vocabulary(self) -> bool:
        """Whether it has a vocabulary of its own: not hashed, not shared, not the catalogue."""
        return False

    @property
    def is_hashed(self) -> bool:
        """Whether the rows of its table are hashes of tokens."""
        return False

    @property
    def recency_half_life(self) -> float | None:
        """Positions back at which a value of a bag weighs half; None where all weigh the same."""
        return None


class _TableFeature(_Feature):
    shares: str | None = Field(
        None,
        pattern=r"^item\..",
        description="Item feature, such as item.genres, whose table and vocabulary a feature of "
        "query or context reads, so that each learns from the other.",
    )
    max_idle_days: int | None = Field(
        None,
        ge=1,
        le=MANY,
        exclude_if=lambda days: days is None,
        description="Days without it after which a value leaves the vocabulary, and its row is for "
        "a new one; null: never. Ids and context count by events, others by rows of the table.",
    )

    @property
    def shared_table(self) -> str | None:
        """The item feature whose table it reads; None: its own."""
        return self.shares


class IdFeature(_TableFeature):
    """The id of the item or query: one row for each entry of the catalogue, in its order.

    Where queries are items, too, such as pages that link to pages, the query's id may share the
    item's rows. With min_count or max_idle_days, only some ids have a row; the others are as absent
    as an id that training has not seen.
    """

    kind: Literal["id"] = "id"
    min_count: int = Field(
        1,
        ge=1,
        le=EVENTS,
        exclude_if=lambda count: count == 1,
        description="Events from which on an id has a row of its own.",
    )
    is_id: ClassVar[bool] = True
    why_not_given: ClassVar[str] = "is the id that is asked for"

    @property
    def has_vocabulary(self) -> bool:
        """Whether not every id of the catalogue has a row."""
        return self.min_count > 1 or self.max_idle_days is not None

    @model_validator(mode="after")
    def _shares_all_rows(self) -> "IdFeature":
        if self.shares is not None and self.has_vocabulary:
            raise ValueError(
                f"min_count and max_idle_days have no effect on {self.name!r}, which shares the "
                f"rows of {self.shares}; remove them or shares"
            )
        return self


class _TokenFeature(_TableFeature):
    min_count: int = Field(
        1, ge=1, le=EVENTS, description="Rarer tokens share the out-of-vocabulary row."
    )
    max_vocabulary: int = Field(
        1_000_000, ge=1, le=ROWS, description="Greatest number of tokens, the most frequent ones."
    )
    hash_buckets: int | None = Field(
        None,
        ge=2,
        le=ROWS,
        description="Hash tokens into this many rows, which they may share; no vocabulary.",
    )

    @property
    def has_vocabulary(self) -> bool:
        """Whether it is neither hashed nor shared."""
        return self.hash_buckets is None and self.shares is None

    @property
    def is_hashed(self) -> bool:
        """Whether the rows of its table are hashes of tokens."""
        return self.hash_buckets is not None

    @model_validator(mode="after")
    def _one_encoding(self) -> "_TokenFeature":
        if self.hash_buckets is not None:
            self._refuse(
                ("min_count", "max_vocabulary", "max_idle_days"),
                f"on the hashed feature {self.name!r}; remove it or hash_buckets",
            )
        if self.shares is not None:
            self._refuse(
                ("min_count", "max_vocabulary", "max_idle_days", "hash_buckets"),
                f"on {self.name!r}, which shares the rows of {self.shares}; remove it or shares",
            )
        return self

    def _refuse(self, keys: tuple[str, ...], why: str) -> None:
        """Raises an error where one of the keys, which have no effect, is set."""
        for key in keys:
            # Manifests list every key, so a default may be given.
            if getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"{key} has no effect {why}")


class CategoricalFeature(_TokenFeature):
    """One value of a set: a string, an integer or a boolean."""

    kind: Literal["categorical"] = "categorical"
    raw: ClassVar[Raw] = "token"


class _ListFeature(_TokenFeature):
    # A schema without it is that of versions that did not know it, and so is its fingerprint.
    delimiter: str | None = Field(
        None,
        min_length=1,
        max_length=20,
        exclude_if=lambda delimiter: delimiter is None,
        description="Text between the values of a string, as in Drama|Comedy, which blanks may "
        "surround; null: the column holds lists.",
    )


class MultiValuedFeature(_ListFeature):
    """A list of values of a set, in no particular order."""

    kind: Literal["multi_valued"] = "multi_valued"
    raw: ClassVar[Raw] = "tokens"
    has_several_values: ClassVar[bool] = True


class SequenceFeature(_ListFeature):
    """A list of values of a set, the oldest first; order counts, and so does repetition.

    With a max_length of 1 it is the last value.
    """

    kind: Literal["sequence"] = "sequence"
    raw: ClassVar[Raw] = "tokens"
    max_length: int = Field(50, ge=1, le=10_000, description="Number of last values that are kept.")
    pooling: Literal["recency", "mean"] = Field(
        "recency", description="Whether later values weigh more, or all the same."
    )
    half_life: float = Field(
        8.0,
        gt=0,
        le=10_000,
        description="Positions back at which a value weighs half, with pooling recency.",
    )
    has_several_values: ClassVar[bool] = True

    @property
    def recency_half_life(self) -> float | None:
        """Positions back at which a value weighs half; None with pooling mean."""
        return self.half_life if self.pooling == "recency" else None

    @model_validator(mode="after")
    def _one_pooling(self) -> "SequenceFeature":
        if self.max_length == 1:
            why = f"on the sequence {self.name!r} of one value; remove it or max_length"
            self._refuse(("pooling", "half_life"), why)
        if self.pooling == "mean":
            why = f"on the mean of the sequence {self.name!r}; remove it or pooling"
            self._refuse(("half_life",), why)
        return self


class TextFeature(_TokenFeature):
    """Free text in lower case, as the set of its words or of their parts.

    Parts are runs of characters of the words between marks, `<word>` (Bojanowski et al. 2017), so
    that words of similar spelling share rows: with 3 to 4 characters `cat` is <ca, cat, at>,
    <cat and cat>. A word too short for any part is kept whole, as `<a>`.
    """

    kind: Literal["text"] = "text"
    raw: ClassVar[Raw] = "text"
    tokens: Literal["words", "character_ngrams", "words_and_ngrams"] = Field(
        "words", description="words_and_ngrams: also each word whole, as `<word>`."
    )
    ngrams: tuple[_NgramLength, _NgramLength] = Field(
        (3, 5), description="Smallest and greatest number of characters of a part."
    )
    has_several_values: ClassVar[bool] = True

    @model_validator(mode="after")
    def _ngrams_are_a_range(self) -> "TextFeature":
        if self.tokens == "words":
            why = f"on the words of the text {self.name!r}; remove it or set tokens"
            self._refuse(("ngrams",), why)
        smallest, largest = self.ngrams
        if smallest > largest:
            raise ValueError(
                f"ngrams of the text {self.name!r} are from {smallest} to {largest}; expected the "
                "smaller number first"
            )
        return self


class _DenseFeature(_Feature):
    @property
    def is_sparse(self) -> bool:
        """Its numbers are projected."""
        return False

    @property
    def dense_width(self) -> int:
        """Numbers of a row."""
        return 1


class NumericFeature(_DenseFeature):
    """A number, scaled by the distribution of the catalogue's numbers.

    Text is read as numbers, too: what is none, such as Unknown, is absent.
    """

    kind: Literal["numeric"] = "numeric"
    raw: ClassVar[Raw] = "number"
    scaling: Literal["standard", "log", "quantile"] = Field(
        "standard",
        description="standard: mean 0 and deviation 1; log: the same of sign(x) log(1 + |x|); "
        "quantile: its rank, from -1 to 1.",
    )


class DateFeature(_DenseFeature):
    """A date, such as that of a release, as the number of days since 1970, scaled like a number.

    On any day of asking, this number orders items by their age.
    """

    kind: Literal["date"] = "date"
    raw: ClassVar[Raw] = "date"
    scaling: Literal["standard", "quantile"] = Field(
        "standard",
        description="standard: mean 0 and deviation 1; quantile: its rank, from -1 to 1.",
    )


class VectorFeature(_DenseFeature):
    """A fixed-length vector, such as a precomputed text or image embedding."""

    kind: Literal["vector"] = "vector"
    raw: ClassVar[Raw] = "numbers"
    length: int = Field(ge=1, le=16_384, description="Numbers of each vector.")

    @property
    def dense_width(self) -> int:
        """Numbers of a row."""
        return self.length


class PositionFeature(_TokenFeature):
    """The position at which the item was shown: a rank or the name of a slot.

    It is known in training alone, which hides it now and then (`loss.context_dropout`), so that the
    model learns to tell clicks due to the position from clicks due to the query (Zhao et al. 2019,
    section 4.4). It is absent wherever items are ranked.
    """

    kind: Literal["position"] = "position"
    raw: ClassVar[Raw] = "token"
    why_not_given: ClassVar[str] = "is only known in training"


class TimeFeature(_Feature):
    """The event's time: its hour or weekday, or the time since the event before it.

    Recency is a logarithm, so no scaling needs to be fitted.
    """

    kind: Literal["time"] = "time"
    part: Literal["hour", "weekday", "recency"] = Field(
        description="Part of the time; recency: time since the latest event that the query's "
        "history may show."
    )
    zone: str = Field("UTC", description="Time zone of hour and weekday, such as Europe/Paris.")
    why_not_given: ClassVar[str] = "is taken from the time of asking"

    @property
    def num_embeddings(self) -> int:
        """Rows of its table; 0 of recency, which is a number."""
        return {"hour": 24, "weekday": 7, "recency": 0}[self.part]

    @property
    def is_sparse(self) -> bool:
        """Whether it is an hour or a weekday."""
        return self.num_embeddings > 0

    @property
    def dense_width(self) -> int:
        """Numbers of a row; 0 of an hour or a weekday."""
        return 0 if self.is_sparse else 1

    @model_validator(mode="after")
    def _zone_is_known(self) -> "TimeFeature":
        if self.part == "recency" and self.zone != "UTC":
            raise ValueError(f"zone has no effect on the recency {self.name!r}; remove it")
        try:
            ZoneInfo(self.zone)
        except (KeyError, ValueError, OSError):
            raise ValueError(
                f"zone {self.zone!r} of {self.name!r} is not a time zone; expected a name such as "
                "Europe/Paris"
            ) from None
        return self


Feature = Annotated[
    IdFeature
    | CategoricalFeature
    | MultiValuedFeature
    | SequenceFeature
    | TextFeature
    | NumericFeature
    | DateFeature
    | VectorFeature,
    Field(discriminator="kind"),
]
ColumnFeature = (
    CategoricalFeature
    | MultiValuedFeature
    | SequenceFeature
    | TextFeature
    | PositionFeature
    | NumericFeature
    | DateFeature
    | VectorFeature
)
ContextFeature = Annotated[ColumnFeature | TimeFeature, Field(discriminator="kind")]
TokenFeature = (
    CategoricalFeature | MultiValuedFeature | SequenceFeature | TextFeature | PositionFeature
)
# Kinds of one number a row.
ScaledFeature = NumericFeature | DateFeature
DenseFeature = ScaledFeature | VectorFeature
ListFeature = MultiValuedFeature | SequenceFeature
# Kinds with named values, of which slices of the evaluation are made.
NamedFeature = CategoricalFeature | MultiValuedFeature
# Kinds that requests filter by: named values, and numbers and dates, which have an order.
Filterable = NamedFeature | ScaledFeature
AnyFeature = IdFeature | ColumnFeature | TimeFeature
