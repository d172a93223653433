"""Keys of earlier versions, with the keys that replace them.

An old key is an error that names the new one: nothing is converted silently, so that a
configuration file always says what runs.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_CONSTANT = "is now a constant of the evaluation; remove it"


@dataclass(frozen=True)
class Renamed:
    """An old key.

    Attributes:
        says: Predicate of the error's sentence, whose subject is the key.
        was: Types of the key's old values, where a key of the same name holds something else now.
    """

    says: str
    was: tuple[type, ...] = ()

    def matches(self, value: Any) -> bool:
        """Returns whether a value is one of the old key."""
        return not self.was or isinstance(value, self.was)


RENAMED: Mapping[str, Renamed] = {
    "evaluation.bootstrap_samples": Renamed(_CONSTANT),
    "evaluation.ease_max_items": Renamed(_CONSTANT),
    "evaluation.knn_neighbours": Renamed(_CONSTANT),
    "evaluation.slice_values": Renamed(_CONSTANT),
    "export.tolerance": Renamed(
        "is gone, for the gate tests the pairs of both models (docs/evaluation.md); remove it"
    ),
    "loss.across_ranks": Renamed("is now loss.candidates.across_ranks"),
    "loss.candidates": Renamed("is now loss.candidates.kind; batch is in_batch", (str,)),
    "loss.logq": Renamed("is now loss.logq.source.kind", (str,)),
    "loss.logq_buckets": Renamed("is now loss.logq.source.buckets (with kind: streaming)"),
    "loss.logq_learning_rate": Renamed(
        "is now loss.logq.source.learning_rate (with kind: streaming)"
    ),
    "loss.logq_strength": Renamed("is now loss.logq.strength"),
    "loss.candidates.batches": Renamed("was without benefit; use loss.candidates: {kind: mixed}"),
    "loss.memory_batches": Renamed("was without benefit; use loss.candidates: {kind: mixed}"),
    "loss.temperature.learned": Renamed("was without benefit; set loss.temperature to a number"),
    "loss.temperature_range": Renamed("was without benefit; set loss.temperature to a number"),
    "loss.uniform_negatives": Renamed("is now loss.candidates.uniform (with kind: mixed)"),
    "model.activation": Renamed("is relu now; remove it"),
    "model.attention": Renamed("is now {kind: attention, width: 64, ...} in model.history"),
    "model.cross": Renamed("was without benefit; remove it"),
    "model.cross_layers": Renamed("was without benefit; remove it"),
    "model.cross_rank": Renamed("was without benefit; remove it"),
    "model.history_half_life": Renamed("is now {kind: recent, half_life: ...} in model.history"),
    "model.history_pooling": Renamed(
        "is now model.history, such as [{kind: mean}, {kind: last}] for [mean, last]"
    ),
    "ssl.weighting": Renamed("was without benefit; remove it"),
    "training.dense_optimizer": Renamed("is adamw now; remove it"),
    "training.launcher": Renamed("is now training.ray: null, or {workers: 2} for launcher ray"),
    "training.max_failures": Renamed("is now training.ray.max_failures"),
    "training.workers": Renamed("is now training.ray.workers"),
    "training.schedule.warmup_fraction": Renamed("is now training.schedule.warmup, below 1"),
    "training.schedule.warmup_steps": Renamed("is now training.schedule.warmup"),
}


def old_keys(document: Mapping[str, Any]) -> Iterator[str]:
    """Yields a sentence without its full stop for each old key of a configuration."""
    for path, renamed in RENAMED.items():
        *parents, key = path.split(".")
        section: Any = document
        for parent in parents:
            section = section.get(parent) if isinstance(section, Mapping) else None
        if isinstance(section, Mapping) and key in section and renamed.matches(section[key]):
            yield f"{path} {renamed.says}"


def old_key(keys: Sequence[str]) -> str | None:
    """Returns the sentence of a path at or below an old key, without its full stop."""
    for depth in range(1, len(keys) + 1):
        path = ".".join(keys[:depth])
        renamed = RENAMED.get(path)
        if renamed is not None and not renamed.was:
            return f"{path} {renamed.says}"
    return None
