"""An A/B test: the variant that answers a query, and the metrics that must not get worse.

An experiment is a directory that `recsys export --ab` writes: experiment.json, and a sealed bundle
for each variant beside it.
"""

import hashlib
import json
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    AwareDatetime,
    Field,
    ValidationError,
    model_validator,
)

from feature_store.core.errors import UserError
from feature_store.core.files import write_text
from feature_store.core.settings import Frozen
from pipelines.reports.words import QUERY

EXPERIMENT_JSON = "experiment.json"

# Metrics of a variant; see `serving.experiment.report`.
OutcomeMetric = Literal["conversion_rate", "events_per_query", "value_per_query", "hit_rate"]
ServiceMetric = Literal["fallback_rate", "latency_p99_ms"]
Metric = OutcomeMetric | ServiceMetric
OUTCOME_METRICS: tuple[OutcomeMetric, ...] = get_args(OutcomeMetric)
# The less, the better.
SERVICE_METRICS: tuple[ServiceMetric, ...] = get_args(ServiceMetric)

# Shares are written as decimals.
_ROUNDING = 1e-9


def _below(path: str) -> str:
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts or not parts.parts:
        raise ValueError(f"{path!r} is not a directory below the experiment's")
    return path


class Variant(Frozen):
    """One of the systems that are compared.

    Attributes:
        name: Name in the log.
        bundle: Directory of its bundle, relative to the experiment's.
        share: Part of the queries that it answers.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
    bundle: Annotated[str, AfterValidator(_below)]
    share: Annotated[float, Field(gt=0, lt=1)]


class GuardRail(Frozen):
    """A metric that no variant may worsen by more than a little.

    Attributes:
        metric: Any metric of the report.
        worst_relative_change: Largest loss against the first variant: 0.1 is 10 % more, of a
            latency, and -0.02 is 2 % less, of a conversion rate.
    """

    metric: Metric
    worst_relative_change: Annotated[float, Field(gt=-1, allow_inf_nan=False)]

    @model_validator(mode="after")
    def _is_a_loss(self) -> Self:
        expected = 1 if self.metric in SERVICE_METRICS else -1
        if self.worst_relative_change * expected < 0:
            sign = "0 or more" if expected > 0 else "0 or less"
            raise ValueError(f"the worst relative change of {self.metric} must be {sign}")
        return self


class Experiment(Frozen):
    """The content of experiment.json.

    Attributes:
        name: Name, a part of the hash by which queries are assigned.
        salt: Salt of the hash; another one divides the queries anew, independently.
        variants: Variants; the first is the control.
        overrides: Variant by query id, for testers, whose answers do not count.
        guard_rails: Limits of all variants but the first.
        query: Word of the log for a query.
        created: Time of creation.
    """

    name: Annotated[str, Field(min_length=1, max_length=256)]
    salt: str
    variants: Annotated[tuple[Variant, ...], Field(min_length=2)]
    overrides: dict[str, str] = Field(default_factory=dict)
    guard_rails: tuple[GuardRail, ...] = ()
    query: Annotated[str, Field(min_length=1, max_length=32)] = QUERY
    created: AwareDatetime

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        names = self.names
        if len(set(names)) < len(names):
            raise ValueError("two variants have the same name")
        total = sum(variant.share for variant in self.variants)
        if abs(total - 1) > _ROUNDING:
            raise ValueError(f"the shares add up to {total:g}, expected 1")
        for query_id, name in self.overrides.items():
            if name not in names:
                raise ValueError(f"the override of query {query_id!r} is to no variant: {name!r}")
        metrics = [rail.metric for rail in self.guard_rails]
        if len(set(metrics)) < len(metrics):
            raise ValueError("two guard-rails are of the same metric")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the variants, the control first."""
        return tuple(variant.name for variant in self.variants)

    def assign(self, query_id: str) -> str:
        """Returns the name of the variant that answers a query: its override, else by a hash.

        The first half of the hash chooses between the control and the others, the second half
        among the others. So nobody changes variant while the control's share shrinks and the others
        grow in proportion, but from the control to another.
        """
        if query_id in self.overrides:
            return self.overrides[query_id]
        control, *others = self.variants
        whether, which = _uniforms(self.salt, self.name, query_id)
        if whether < control.share:
            return control.name
        position = which * sum(variant.share for variant in others)
        for variant in others[:-1]:
            position -= variant.share
            if position < 0:
                return variant.name
        return others[-1].name


def read_experiment(directory: Path) -> Experiment:
    """Reads experiment.json of a directory.

    Raises:
        UserError: It is not there, or is not an experiment.
    """
    path = directory / EXPERIMENT_JSON
    try:
        return Experiment.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(
            f"{directory} has no {EXPERIMENT_JSON}; give a directory that `recsys export --ab` "
            "wrote, or the log of a server of one."
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        what = f"{where}: {first['msg']}" if where else first["msg"]
        raise UserError(
            f"{path} is not an experiment: {what}; correct it, or export the experiment again."
        ) from error


def write_experiment(directory: Path, experiment: Experiment) -> None:
    """Writes experiment.json atomically."""
    write_text(directory / EXPERIMENT_JSON, experiment.model_dump_json(indent=2) + "\n")


def _uniforms(*key: str) -> tuple[float, float]:
    """Computes two independent numbers in [0, 1) from a key's SHA-256, the same everywhere."""
    # JSON keeps the parts of a key apart, and has a spelling for every string.
    digest = hashlib.sha256(json.dumps(key).encode()).digest()
    first, second = (int.from_bytes(half, "big") >> 11 for half in (digest[:8], digest[8:16]))
    return first / 2**53, second / 2**53
