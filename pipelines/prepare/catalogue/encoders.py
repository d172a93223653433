"""The encoders of the items, of the queries and of the context, fitted to what tasks counted."""

from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import lru_cache
from itertools import starmap
from pathlib import Path

import pyarrow as pa

from feature_store.core.files import write_json
from feature_store.encoding.collisions import collision_warning
from feature_store.encoding.encoder import SideEncoder
from feature_store.encoding.fitting import fit_scaling, fit_vocabulary, hash_collisions
from feature_store.encoding.scaling import Scaling
from feature_store.encoding.vocabulary import Vocabulary
from feature_store.kinds import AnyFeature, DenseFeature, IdFeature, TokenFeature
from feature_store.schema import FeatureGroup, FeatureSchema, qualified
from pipelines.prepare.job import Run
from pipelines.prepare.uses import Uses

# Function from a feature's position to its `partial_counts` of all pieces.
Counted = Callable[[int], Iterable[pa.Table]]


def fit_encoder(
    run: Run,
    side: FeatureGroup,
    features: tuple[AnyFeature, ...],
    ids: Vocabulary,
    counted: Counted,
    previous: SideEncoder | None,
    uses: Uses,
    *,
    clear_unused: bool,
) -> SideEncoder:
    """Grows the vocabularies and fits the scalings of a side or the context, and saves both.

    Args:
        run: The run; it shows a warning for each hashed feature with many collisions.
        side: Side, or the context.
        features: Features to encode.
        ids: Ids of the side.
        counted: Counts that tasks made of each feature.
        previous: Encoder of the earlier run, whose tokens keep their rows.
        uses: Uses of values by events.
        clear_unused: Whether tokens that are no longer used are cleared, because they may be of a
            row that is to be forgotten.
    """
    vocabularies: dict[str, Vocabulary] = {}
    scalings: dict[str, Scaling] = {}
    for index, feature in enumerate(features):
        if isinstance(feature, DenseFeature):
            scalings[feature.name] = fit_scaling(feature, counted(index))
        elif isinstance(feature, TokenFeature | IdFeature) and feature.has_vocabulary:
            used = uses.counts.get(qualified(side, feature))
            vocabularies[feature.name] = fit_vocabulary(
                feature,
                counted(index) if used is None else [used],
                previous.vocabularies[feature.name] if previous is not None else None,
                moment=uses.moment,
                clear_unused=clear_unused,
            )
    directory = run.directory / "vocabulary"
    items = _items_encoder(directory, run.job.features, side)
    encoder = SideEncoder(side, features, ids, vocabularies, scalings, items)
    encoder.save(directory)
    path = run.directory / "statistics" / f"{side}.hashing.json"
    for warning in _write_hashing_statistics(path, side, features, counted):
        run.job.progress.note(warning)
    return encoder


@lru_cache(maxsize=4)
def load_encoder(vocabulary: Path, schema: str, side: FeatureGroup) -> SideEncoder:
    """Reads an encoder as it was saved; a worker process keeps it between tasks."""
    return SideEncoder.load(vocabulary, FeatureSchema.model_validate_json(schema), side)


def _items_encoder(
    directory: Path, schema: FeatureSchema, side: FeatureGroup
) -> SideEncoder | None:
    """Reads the items' encoder, which is saved first, if features of a side share its tables."""
    if all(feature.shared_table is None for feature in schema.of(side)):
        return None
    return SideEncoder.load(directory, schema, "item")


def _write_hashing_statistics(
    path: Path, side: FeatureGroup, features: tuple[AnyFeature, ...], counted: Counted
) -> list[str]:
    """Writes how many tokens of each hashed feature share a row, if there are such features.

    Args:
        path: JSON file: the fields of `Collisions` by `<side>.<feature>`.
        side: Side, or the context.
        features: Features of the side.
        counted: Counts that tasks made of each feature.

    Returns:
        A sentence for each feature with many collisions.
    """
    collisions = {
        qualified(side, feature): hash_collisions(feature, counted(index))
        for index, feature in enumerate(features)
        if isinstance(feature, TokenFeature) and feature.hash_buckets is not None
    }
    if collisions:
        write_json(path, {name: asdict(each) for name, each in collisions.items()})
    return [text for text in starmap(collision_warning, collisions.items()) if text is not None]
