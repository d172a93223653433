"""Checks which parts of a checkpoint can be loaded under a configuration and its prepared data.

It imports nothing heavy, for `recsys doctor` must answer at once.
"""

from collections.abc import Iterator
from typing import Any, Literal

from feature_store.core.settings import Frozen
from pipelines.prepared.reader import Prepared
from recsys.checkpoint.manifest import CheckpointManifest
from recsys.checkpoint.table_rows import moved_tables, table_rows
from recsys.config.config import Config

# Setting of the model, and of the parts of it, that no tensor's shape or meaning depends on.
_FREE_OF_MODEL = "dropout"
_OPTIMIZERS = {"training.sparse_optimizer"}
# Sections that change what is learnt; settings in them work on the tensors as they are.
_SECTIONS = ("model", "loss", "ssl", "training", "sharding")


class Finding(Frozen):
    """Result of comparing one table or setting.

    Attributes:
        kind: `fits`; `resized`: a table with new rows; `changed`: a setting that works on the
            tensors as they are; `impossible`.
        what: Name of the table or the setting.
        before: Value in the checkpoint.
        after: Value now.
        why: Reason why it is impossible.
    """

    kind: Literal["fits", "resized", "changed", "impossible"]
    what: str
    before: Any
    after: Any
    why: str = ""

    def sentence(self) -> str:
        """Returns the finding as a sentence."""
        if self.kind == "fits":
            return f"{self.what}: fits ({self.after})"
        why = f": {self.why}" if self.why else ""
        return f"{self.what}: {self.kind}, from {self.before} to {self.after}{why}"


def compare(config: Config, prepared: Prepared, checkpoint: CheckpointManifest) -> list[Finding]:
    """Compares the model of a checkpoint with the one that a configuration describes.

    Args:
        config: Configuration that would be trained.
        prepared: Prepared data of the configuration.
        checkpoint: Manifest of the checkpoint.
    """
    return [
        *_compare_features(config, checkpoint.config),
        *_compare_tables(prepared, checkpoint),
        *compare_settings(config, checkpoint.config),
    ]


def _compare_features(config: Config, before: Config) -> Iterator[Finding]:
    for side in ("item", "query", "context"):
        old = {f.name: f.model_dump(mode="json") for f in getattr(before.features, side)}
        new = {f.name: f.model_dump(mode="json") for f in getattr(config.features, side)}
        for name in [*old, *(name for name in new if name not in old)]:
            what = f"feature {side}.{name}"
            if name not in new:
                yield _impossible(what, "present", "absent", "the towers have other inputs")
            elif name not in old:
                yield _impossible(what, "absent", "present", "the towers have other inputs")
            for key in old.get(name, {}) if name in new else ():
                values = old[name][key], new[name].get(key)
                if values[0] != values[1]:
                    yield _impossible(f"{what}.{key}", *values, "its rows or its width differ")
        if old.keys() == new.keys() and list(old) != list(new):
            yield _impossible(
                f"order of {side} features",
                list(old),
                list(new),
                "the towers read them in this order",
            )


def _compare_tables(prepared: Prepared, checkpoint: CheckpointManifest) -> Iterator[Finding]:
    moved = moved_tables(checkpoint.tables, prepared)
    now = table_rows(prepared)
    for name, old in checkpoint.tables.items():
        if name not in now:
            continue  # A feature that is gone.
        rows = old.rows, now[name].rows
        what = f"table {name}"
        if name in moved:
            why = "its rows stand for other tokens, as the vocabulary was built anew"
            yield _impossible(what, rows[0], rows[1], why)
        elif rows[1] < rows[0]:
            yield _impossible(what, rows[0], rows[1], "rows are gone")
        else:
            kind: Literal["fits", "resized"] = "resized" if rows[0] != rows[1] else "fits"
            yield Finding(kind=kind, what=what, before=rows[0], after=rows[1])


def compare_settings(config: Config, before: Config) -> Iterator[Finding]:
    """Yields each setting that differs, and whether the tensors allow for it."""
    for path, old, new in differences(config, before):
        if path.startswith("model.") and path.rpartition(".")[2] != _FREE_OF_MODEL:
            yield _impossible(path, old, new, "the towers have other parameters")
        elif path in _OPTIMIZERS:
            yield _impossible(path, old, new, "the optimizer has another state")
        else:
            yield Finding(kind="changed", what=path, before=old, after=new)


def differences(config: Config, before: Config) -> Iterator[tuple[str, Any, Any]]:
    """Yields path, old and new value of each setting of training that differs."""
    old, new = _settings(before), _settings(config)
    for path in [*old, *(path for path in new if path not in old)]:
        if old.get(path) != new.get(path):
            yield path, old.get(path), new.get(path)


def _settings(config: Config) -> dict[str, Any]:
    """Returns the settings of training by path."""
    document = config.model_dump(mode="json")
    found = {path: value for name in _SECTIONS for path, value in _flat(document[name], name)}
    if config.ssl.view_plan is not None and config.ssl.view_plan.of_neighbours:
        found["ranking.neighbours"] = config.ranking.neighbours  # Views show items of these lists.
    return found


def _flat(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}")
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for position, inner in enumerate(value):
            yield from _flat(inner, f"{path}.{position}")
    else:
        yield path, value


def _impossible(what: str, before: Any, after: Any, why: str) -> Finding:
    return Finding(kind="impossible", what=what, before=before, after=after, why=why)
