"""The `evaluation` section of a configuration."""

from typing import Literal

from pydantic import Field, field_validator

from feature_store.core.bounds import MANY
from feature_store.core.settings import Settings
from feature_store.kinds import NamedFeature
from feature_store.schema import FeatureSchema, qualified

Baseline = Literal["random", "popularity", "item_knn", "ease", "als"]
SelectBy = Literal["recall@10", "recall@50", "ndcg@10", "map@10"]

# Slices that need no feature.
ITEM_AGE, HISTORY_LENGTH = "item_age", "history_length"


# The cutoffs of validation, which `metrics.json` holds in any case.
CUTOFFS = (10, 50)


class EvaluationConfig(Settings):
    """Metrics of the test split: every query ranks the whole corpus, exactly.

    Change `select_by` to the metric that matters to you before training, for it picks the
    checkpoint. Add `slices` to see for whom the model works; they cost no further ranking.
    """

    select_by: SelectBy = Field(
        "recall@50",
        description="Validation metric that picks the best checkpoint; ndcg@all breaks ties.",
    )
    cutoffs: tuple[int, ...] = Field(
        CUTOFFS,
        description="Ranks at which metrics are taken, from 1 to 1000; 10 and 50 must be among "
        "them.",
    )
    slices: tuple[str, ...] = Field(
        (HISTORY_LENGTH,),
        description="Slices beside those by item frequency: history_length, item_age (needs "
        "data.columns.timestamp), or a categorical or multi-valued feature, such as item.genres.",
    )
    baselines: tuple[Baseline, ...] = Field(
        ("random", "popularity", "item_knn", "ease", "als"),
        description="Methods that the model is compared with; popularity is always one of them.",
    )
    ranking_tasks: int = Field(
        1,
        ge=1,
        le=MANY,
        description="Ray tasks that share the queries, such as one for each core of a cluster; "
        "1: this process ranks, with all its cores.",
    )
    map_items: int = Field(
        2_000,
        ge=0,
        le=10_000,
        description="Items on the dashboard's map, a t-SNE of their vectors; 0: no map.",
    )

    @field_validator("cutoffs")
    @classmethod
    def _cutoffs_are_ranks(cls, cutoffs: tuple[int, ...]) -> tuple[int, ...]:
        if not all(1 <= k <= 1000 for k in cutoffs):
            raise ValueError(f"cutoffs are ranks from 1 to 1000, got {list(cutoffs)}")
        if not set(CUTOFFS) <= set(cutoffs):
            raise ValueError(f"cutoffs must hold {CUTOFFS[0]} and {CUTOFFS[1]}; add them")
        return tuple(sorted(set(cutoffs)))

    @field_validator("baselines")
    @classmethod
    def _popularity_is_there(cls, baselines: tuple[Baseline, ...]) -> tuple[Baseline, ...]:
        if "popularity" not in baselines:
            raise ValueError("a model is always compared with popularity; add it to baselines")
        return baselines


def evaluation_fault(
    settings: EvaluationConfig, features: FeatureSchema, has_time: bool
) -> str | None:
    """Returns what is wrong with the slices, or None."""
    possible = [
        qualified(side, feature)
        for side in ("item", "query")
        for feature in features.side(side)
        if isinstance(feature, NamedFeature) and not features.owner(feature).is_hashed
    ]
    for name in settings.slices:
        if name == ITEM_AGE and not has_time:
            return "evaluation.slices item_age needs data.columns.timestamp; remove it"
        if name not in (ITEM_AGE, HISTORY_LENGTH, *possible):
            return (
                f"evaluation.slices {name!r} is not a slice; expected {HISTORY_LENGTH}, {ITEM_AGE} "
                f"or one of: {', '.join(possible) or 'no feature, for none has values with names'}"
            )
    return None
