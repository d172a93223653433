"""The bundle's manifest, and the seal that says that its files are those of one export.

manifest.json                        written last: `BundleManifest`, with the SHA-256 of each file
schema.json                          the feature schema
towers.json                          settings of the towers
query_tower/, item_tower/            weights of the towers, see `serving.bundle.tower_files`
item_vectors/part-*.parquet          item_id and vector, for other systems
index.faiss                          see `ItemIndex`
vocabulary/                          see `SideEncoder.save`
ids/                                 of items and queries, see `IdTable`
items/features.arrow                 encoded features, row = item index; an id that no training
                                     event had is absent, as it is to the towers
items/indexed.npy                    items of the index, ascending, by position
items/frequency.npy                  [items] training events
items/filters/                       items of each value, see `ValueLists`
items/titles.arrow                   title; only where items have one
queries/features.arrow               encoded features, row = query index
queries/state.arrow                  item indices: history, oldest first; known, of the training and
                                     validation events; later, of the test events; own, the item
                                     that the query is itself; read, the known ones that channels
                                     read
report.html                          measurements, for people
golden.json                          requests and the trained model's answers
queries/vectors.npy                  [queries, dim] float32, of the snapshot; only where the model
                                     has no context, which comes with the request
fusion/                              channels and weights, see `Fused.save`; only where they rank
                                     together with the model
fusion/content/                      weights of feature values, see `ContentSpace.save`; only where
                                     a channel compares items by them
queries/latest.npy                   time of the history's latest event, microseconds since 1970, or
                                     `NO_TIME`; only where a feature is the recency
"""

import os
import stat
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pydantic import Field, ValidationError

from feature_store.core.documents import read_json
from feature_store.core.errors import UserError
from feature_store.core.manifests import MANIFEST, fingerprint, sha256_of, write_manifest
from feature_store.core.settings import Frozen
from pipelines.reports.words import QUERY
from pipelines.settings import Repeats
from recsys.fusion.weights import Weights
from serving.index.report import IndexReport

# Version of the layout; a reader refuses others.
VERSION = 7

SCHEMA = "schema.json"
TOWERS, QUERY_TOWER, ITEM_TOWER = "towers.json", "query_tower", "item_tower"
INDEX = "index.faiss"
VOCABULARY = "vocabulary"
ITEM_VECTORS = "item_vectors"
IDS = "ids"
ITEM_FEATURES, ITEM_TITLES = "items/features.arrow", "items/titles.arrow"
INDEXED, ITEM_FREQUENCY, FILTERS = "items/indexed.npy", "items/frequency.npy", "items/filters"
GOLDEN = "golden.json"
FUSION = "fusion"
CONTENT = f"{FUSION}/content"
QUERY_FEATURES, QUERY_STATE = "queries/features.arrow", "queries/state.arrow"
QUERY_LATEST, QUERY_VECTORS = "queries/latest.npy", "queries/vectors.npy"

# Part of recall@50 that candidates may cost without a warning.
MAX_LOSS = 0.005

# Files that known queries are answered without, and most of a bundle's bytes.
_DEFERRED = (QUERY_TOWER, ITEM_TOWER, ITEM_VECTORS, ITEM_FEATURES)
# Files that are hashed at a time, which leaves the interpreter to others.
_HASHED_AT_ONCE = 4


class DataWindow(Frozen):
    """ISO-8601 times of the log; None where it has no time.

    Attributes:
        first_event: Time of the first event.
        last_event: Time of the last event.
        histories_to: Time of the last event that a history may hold: the last before the test,
            and after a refit the last of all.
        as_of: Time of the preparation.
    """

    first_event: str | None
    last_event: str | None
    histories_to: str | None
    as_of: str


class Gate(Frozen):
    """Measurements before the bundle was written.

    Attributes:
        item_difference: Largest difference between a number of an item's vector from the exported
            tower and from the trained one.
        query_difference: The same difference of queries.
        recall_by_slice: Recall@100 of the index by the items' training frequency.
        champion: MLflow run that the evaluated model was compared with; None: with none.
        changes: Relative change of recall@50 against the champion, by group with enough pairs.
    """

    item_difference: float
    query_difference: float
    recall_by_slice: dict[str, float]
    champion: str | None
    changes: dict[str, float]


class FusionReport(Frozen):
    """Measurements of the fused ranking on validation queries.

    Attributes:
        weights: Weights of its parts, as they were found on validation.
        candidates: Nearest items by the model that are candidates, beyond the wanted ones. With an
            exact index all items are scored.
        exact_recall: Recall@50 where all items are scored; None: it was not measured, because they
            are, or because there is no validation split.
        recall: Recall@50 among candidates alone.
    """

    weights: Weights
    candidates: int = Field(ge=0)
    exact_recall: float | None
    recall: float | None

    @property
    def warning(self) -> str | None:
        """Sentence where candidates cost `MAX_LOSS` or more; None where they do not."""
        if self.loss < MAX_LOSS:
            return None
        return (
            f"candidates cost {self.loss:.1%} of recall@50, expected less than {MAX_LOSS:.1%}; set "
            "export.index: flat to score all items."
        )

    @property
    def loss(self) -> float:
        """Part of recall@50 that items cost which are no candidates."""
        if not self.exact_recall or self.recall is None:
            return 0.0
        return max(0.0, 1 - self.recall / self.exact_recall)


class HistoryRule(Frozen):
    """The rule of a history: its latest items at most, each once where it is distinct."""

    max_length: int
    is_distinct: bool


class Refit(Frozen):
    """The training on all events whose model is served.

    Attributes:
        training_fingerprint: Fingerprint of the training.
        mlflow_run_id: MLflow run of the training.
        steps: Number of its steps, as many as those of the evaluated checkpoint.
        events: Number of events it was trained on.
        evaluated_events: Number of events that the evaluated model was trained on.
    """

    training_fingerprint: str
    mlflow_run_id: str
    steps: int
    events: int
    evaluated_events: int


class BundleManifest(Frozen):
    """The contents of manifest.json.

    Metrics are those of the evaluated model, also where the bundle holds its refit.

    Attributes:
        version: Version of the layout.
        fingerprint: Fingerprint of training and export settings: the version of the model.
        schema_fingerprint: Fingerprint of the features.
        training_fingerprint: Fingerprint of the evaluated training.
        mlflow_run_id: MLflow run of the evaluated training.
        refit: Training whose model the bundle holds; None: it holds the evaluated one.
        items: Number of items of the index.
        queries: Number of queries in the snapshot.
        query: Word of the log for a query.
        dim: Length of a vector.
        data_window: Times of the log.
        metrics: Overall metrics by split: `validation`, and `test` where it had been evaluated.
        slices: Metrics of the test by slice.
        history: Rule of the queries' histories.
        repeats: Whether items that a query has had are answers, unless a request says otherwise.
        trained_items: Number of items at the training: a history holds items below this.
        index: Record of the index.
        gate: Measurements of the gate.
        fusion: Measurements of the fused ranking; None: the model ranks alone.
        files: SHA-256 by path.
        seal: Fingerprint of everything above.
    """

    version: int = VERSION
    fingerprint: str
    schema_fingerprint: str
    training_fingerprint: str
    mlflow_run_id: str
    refit: Refit | None = None
    items: int
    queries: int
    query: str = QUERY
    dim: int
    data_window: DataWindow
    metrics: dict[str, dict[str, float]]
    slices: dict[str, dict[str, float]]
    history: HistoryRule
    repeats: Repeats
    trained_items: int
    index: IndexReport
    gate: Gate
    fusion: FusionReport | None = None
    files: dict[str, str] = Field(default_factory=dict)
    seal: str = ""


def seal(directory: Path, manifest: BundleManifest) -> BundleManifest:
    """Adds the hashes of all files to the manifest and writes it."""
    files = {name: sha256_of(directory / name) for name in sorted(_files_of(directory))}
    with_files = manifest.model_copy(update={"files": files})
    sealed = with_files.model_copy(update={"seal": _seal_of(with_files)})
    write_manifest(directory, sealed)
    return sealed


def verify(directory: Path, *, defer_tower: bool = False) -> BundleManifest:
    """Reads the manifest and compares every file with it.

    Args:
        directory: Directory of the bundle.
        defer_tower: Whether the contents of the largest files, which known queries are answered
            without, are left to `verify_deferred`.

    Raises:
        UserError: It is not a bundle, it is of another version, or a file is missing, was changed,
            or does not belong to it.
    """
    manifest = read_manifest(directory)
    present = _files_of(directory)
    for name in manifest.files:
        if name not in present:
            raise UserError(f"the bundle {directory} lacks {name}; copy it whole or export again.")
    for name in sorted(present):
        if name not in manifest.files:
            raise UserError(
                f"the bundle {directory} has a file that does not belong to it: {name}; remove it "
                "or export again."
            )
    _compare(directory, manifest, [n for n in present if not (defer_tower and _is_deferred(n))])
    return manifest


def verify_deferred(directory: Path, manifest: BundleManifest) -> None:
    """Compares the files that `verify` left.

    Raises:
        UserError: A file was changed.
    """
    _compare(directory, manifest, [name for name in manifest.files if _is_deferred(name)])


def _is_deferred(name: str) -> bool:
    return name.partition("/")[0] in _DEFERRED or name in _DEFERRED


def _compare(directory: Path, manifest: BundleManifest, names: Sequence[str]) -> None:
    with ThreadPoolExecutor(_HASHED_AT_ONCE) as pool:
        digests = pool.map(lambda name: sha256_of(directory / name), names)
        for name, digest in zip(names, digests, strict=True):
            if digest != manifest.files[name]:
                raise UserError(
                    f"{name} of the bundle {directory} is not the one that was exported with it; "
                    "copy the bundle whole or export again."
                )


def read_manifest(directory: Path) -> BundleManifest:
    """Reads the manifest alone, and checks its own seal.

    Raises:
        UserError: It is not a bundle, or is of another version.
    """
    path = directory / MANIFEST
    if not path.is_file():
        raise UserError(
            f"{directory} is not a bundle: it has no {MANIFEST}; give a directory that "
            "`recsys export` wrote."
        )
    try:
        document = read_json(path)
        version = document["version"]
        if version == VERSION:
            manifest = BundleManifest.model_validate(document)
    except (ValueError, ValidationError, TypeError, KeyError) as error:
        raise UserError(f"{path} is not a bundle's manifest; export the model again.") from error
    if version != VERSION:
        raise UserError(
            f"{directory} is a bundle of version {version!r}, expected {VERSION}; export the model "
            "again with this version of recsys."
        )
    if manifest.seal != _seal_of(manifest):
        raise UserError(f"{path} was changed after the export; export the model again.")
    return manifest


def _seal_of(manifest: BundleManifest) -> str:
    # Bundles that were sealed before there was a word for a query are whole without it.
    absent = {"query"} if manifest.query == QUERY else set()
    return fingerprint(manifest.model_dump(mode="json", exclude={"seal", *absent}))


def _files_of(directory: Path) -> set[str]:
    """Lists all files below a directory but the manifest.

    Raises:
        UserError: Something there is neither a file nor a directory, such as a link: what it names
            is not a part of the bundle, and may change.
    """
    names = set()
    for parent, folders, files in os.walk(directory):
        for path in (Path(parent, name) for name in (*folders, *files)):
            name = path.relative_to(directory).as_posix()
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode):
                names.add(name)
            elif not stat.S_ISDIR(mode):
                raise UserError(
                    f"{name} of the bundle {directory} is a link or no file; copy the bundle with "
                    "the files themselves."
                )
    return names - {MANIFEST}
