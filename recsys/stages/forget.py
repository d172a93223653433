"""The list of ids that `prepare` drops, and what a run after that does not reach."""

from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

import pyarrow as pa

from feature_store.core.errors import UserError
from feature_store.core.locks import locked
from feature_store.core.manifests import read_manifest
from feature_store.encoding.vocabulary import Vocabulary
from feature_store.forgotten import Forgotten
from feature_store.schema import SIDES, Side
from pipelines.prepared.manifest import PreparedManifest
from recsys.config.config import Config
from recsys.moved_store import artifacts_of
from recsys.tracking import is_missing, sqlite_path, tracking_uri

# Names below the output that commands write anew, or that hold no ids; hidden ones are temporary.
_WRITTEN = (
    *("prepared", "prepared.work", "feature_store", "train", "train.partial", "evaluation"),
    *("fusion", "fusion.work", "bundle", "study", "tuning", "tuning.partial", "forgotten.json"),
)
_SHOWN = 3


def forget(config: Config, *, query_ids: Sequence[str] = (), item_ids: Sequence[str] = ()) -> int:
    """Makes every later `prepare` drop all rows of some queries and items.

    Keyed hashes of the ids are written, not the ids. Files of earlier runs stay until `prepare` and
    the stages after it run again. The log itself is left to the caller.

    Args:
        config: Configuration of the output.
        query_ids: Ids of queries.
        item_ids: Ids of items.

    Returns:
        Number of ids that are new on the list.

    Raises:
        UserError: There is no id, or the list cannot be read.
    """
    require_ids(query_ids, item_ids)
    with locked(config.forgotten_path):
        before = Forgotten.load(config.forgotten_path)
        after = before.adding("query", query_ids).adding("item", item_ids)
        if after != before:
            after.save(config.forgotten_path)
    return len(after.query) + len(after.item) - len(before.query) - len(before.item)


def require_ids(query_ids: Sequence[str], item_ids: Sequence[str]) -> None:
    """Refuses to forget nothing, with a `UserError`."""
    if not query_ids and not item_ids:
        raise UserError("nothing to forget: expected at least one --query-id or --item-id.")


def doubts(config: Config, query_ids: Sequence[str], item_ids: Sequence[str]) -> list[str]:
    """Returns sentences on ids that the prepared data does not have, or has on the other side, too.

    Args:
        config: Configuration of the prepared data, if there is some.
        query_ids: Ids of queries to forget.
        item_ids: Ids of items to forget.
    """
    with suppress(UserError):  # It is of another version.
        if read_manifest(config.prepared_dir, PreparedManifest) is None:
            return []
        given: dict[Side, Sequence[str]] = {"query": query_ids, "item": item_ids}
        known = {side: _known(config, side, [*query_ids, *item_ids]) for side in SIDES}
        sentences = []
        for side, ids in given.items():
            other: Side = "item" if side == "query" else "query"
            absent = [each for each in ids if each not in known[side]]
            if absent:
                sentences.append(f"the prepared data has no {side} {_some(absent)}")
            both = [each for each in ids if each in known[other] and each not in given[other]]
            if both:
                sentences.append(
                    f"there is also the {other} {_some(both)}, which stays: give --{other}-id, too"
                )
        return sentences
    return []


def unreached(config: Config) -> list[str]:
    """Returns what may hold forgotten ids and is not written anew by any command."""
    places = []
    uri = tracking_uri(config)
    if not is_missing(uri):
        store = sqlite_path(uri)
        places.append(
            "MLflow's artifacts of earlier runs, and the versions of registered bundles, in "
            f"{artifacts_of(store) if store is not None else uri}"
        )
    places += map(str, foreign(config, {"refit"} if config.refits else set()))
    places.append(
        "what `recommend`, `vectors`, `update` and `export --ab` wrote elsewhere, and logs of "
        "`serve --log`"
    )
    places.append("bundles that were downloaded from the registry, in ~/.cache/recsys")
    places.append("the log, and backups of all this")
    return places


def foreign(config: Config, more: Collection[str]) -> list[Path]:
    """Returns what is below the output and is neither written anew nor of MLflow's store.

    Args:
        config: Configuration of the output.
        more: Names of what else is written anew.
    """
    return [
        entry
        for entry in sorted(Path(config.output).iterdir())
        if entry.name not in (*_WRITTEN, *more)
        and not entry.name.startswith((".", "mlflow.db", "mlartifacts"))
    ]


def _known(config: Config, side: Side, ids: Sequence[str]) -> set[str]:
    """Returns which ids the prepared data has on a side."""
    vocabulary = Vocabulary.load(config.prepared_dir / "vocabulary" / f"{side}_id.parquet")
    rows = vocabulary.rows(pa.array(list(ids), pa.string()))
    return {each for each, row in zip(ids, rows.tolist(), strict=True) if row >= 0}


def _some(ids: Sequence[str]) -> str:
    more = len(ids) - _SHOWN
    return ", ".join(map(repr, ids[:_SHOWN])) + (f" and {more} more" if more > 0 else "")
