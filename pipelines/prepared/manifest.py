"""Records of a prepared directory: its manifest, and the statistics of its features."""

from pydantic import Field

from feature_store.core.settings import Frozen
from feature_store.schema import FeatureSchema
from pipelines.settings import DataConfig


class Counts(Frozen):
    """Number of rows, examples and ids."""

    events_read: int
    train: int
    validation: int
    test: int
    items: int
    queries: int
    items_in_training: int
    rejected: dict[str, int]  # by reason, `<table>: <reason>`


class PreparedManifest(Frozen):
    """The manifest of a prepared directory: its inputs and its contents."""

    version: int = 1
    fingerprint: str  # of the configuration and the source files: equal means nothing to redo
    schema_fingerprint: str
    data: DataConfig
    features: FeatureSchema
    sources: dict[str, list[str]]  # table -> files
    # file of the events that was put aside -> reason
    rejected_files: dict[str, str] = Field(default_factory=dict)
    # marks of files of the events that were passed over without being read
    passed_over: tuple[str, ...] = ()
    as_of: str  # ISO-8601; events after it were rejected
    first_event: str | None
    last_event: str | None
    counts: Counts


class InformationMatrices(Frozen):
    """Mutual information of each pair of features; symmetric, [features, features].

    See `pipelines.statistics.mutual_information`.
    """

    raw: tuple[tuple[float, ...], ...]
    normalised: tuple[tuple[float, ...], ...]
    corrected: tuple[tuple[float, ...], ...]


class MutualInformation(Frozen):
    """Mutual information of item features, in the schema's order; in nats, except `normalised`."""

    features: tuple[str, ...]
    items: InformationMatrices  # every item counts the same
    interactions: InformationMatrices  # an item counts by its training events
