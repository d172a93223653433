"""The search space: paths of the configuration, checked before anything starts."""

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from feature_store.core.errors import UserError
from recsys.config.config import Config
from recsys.config.load import is_discriminator, with_values
from recsys.config.renamed import old_key
from recsys.config.tuning import Choices, Dimension, Range

if TYPE_CHECKING:
    import optuna

_SECTIONS = ("model", "loss", "ssl", "training")

_CHANGES_DATA = (
    "all trials read one prepared directory, which it would change: set it, prepare, then tune"
)
_CHANGES_RUNNING = "it changes how a training runs and not what is learnt"
_REASONS = {
    "data": _CHANGES_DATA,
    "features": _CHANGES_DATA,
    "evaluation": "trials are compared by it",
    "training.seed": "the best of many seeds is luck; tuning.confirm_seeds averages over some",
    "training.validations_per_epoch": "trials are compared validation by validation",
    "training.patience": "it is a bound, the more the better",
    "training.ray": _CHANGES_RUNNING,
    "training.device": _CHANGES_RUNNING,
    "training.deterministic": _CHANGES_RUNNING,
    "training.checkpoint_every": _CHANGES_RUNNING,
    "training.keep_checkpoints": _CHANGES_RUNNING,
    "training.start": "trials begin from scratch",
}


@dataclass(frozen=True)
class Axis:
    """One dimension of the space.

    Attributes:
        path: Path of the setting in the configuration.
        dimension: Values of the setting.
        is_integer: Whether the setting of a range is a whole number.
    """

    path: str
    dimension: Dimension
    is_integer: bool = False

    def suggest(self, trial: "optuna.Trial") -> Any:
        """Asks Optuna for a value; choices are texts, because it has no lists."""
        dimension = self.dimension
        if isinstance(dimension, Choices):
            choices = [json.dumps(value) for value in dimension.choices]
            return json.loads(trial.suggest_categorical(self.path, choices))
        low, high, step = dimension.low, dimension.high, dimension.step
        if self.is_integer:
            whole = (int(low), int(high))
            return trial.suggest_int(self.path, *whole, step=int(step or 1), log=dimension.log)
        return trial.suggest_float(self.path, low, high, step=step, log=dimension.log)

    def encoded(self, value: Any) -> Any:
        """Returns a value as Optuna stores it."""
        return json.dumps(value) if isinstance(self.dimension, Choices) else value

    def holds(self, value: Any) -> bool:
        """Returns whether the axis has the value."""
        dimension = self.dimension
        if isinstance(dimension, Choices):
            return value in dimension.choices
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        steps = (value - dimension.low) / dimension.step if dimension.step else 0.0
        return dimension.low <= value <= dimension.high and abs(steps - round(steps)) < 1e-9


def default_space(config: Config) -> dict[str, Dimension]:
    """Returns the space where `tuning.space` is empty: settings that matter on most data.

    Temperature, the strength of logQ, both learning rates (a factor of five either way), dropout
    of towers and of histories, weight decay and batch size; with self-supervision its weight too.
    Each holds the configuration's own value; settings without an effect in it are left out.
    """
    current = leaves(config)

    def around(path: str, low: float, high: float, log: bool = False) -> dict[str, Dimension]:
        value = current.get(path)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return {}
        return {path: Range(low=min(low, value), high=max(high, value), log=log and value > 0)}

    def by_factor(path: str, factor: float) -> dict[str, Dimension]:
        value = current.get(path)
        return around(path, value / factor, value * factor, log=True) if value else {}

    def among(path: str, *values: float) -> dict[str, Dimension]:
        if path not in current:
            return {}
        return {path: Choices(choices=tuple(sorted({*values, current[path]})))}

    proposed = {
        **around("loss.temperature", 0.03, 0.3, log=True),
        **around("loss.logq.strength", 0.0, 1.0),
        **around("loss.history_dropout", 0.0, 0.5),
        **around("model.dropout", 0.0, 0.5),
        **by_factor("training.sparse_learning_rate", 5),
        **by_factor("training.dense_learning_rate", 5),
        **among("training.weight_decay", 0.0, 0.001, 0.01, 0.1),
        **among("training.batch_size", 256, 512, 1024),
        **around("ssl.alpha", 0.01, 1.0, log=True),
    }
    return {
        path: dimension for path, dimension in proposed.items() if _fits(config, path, dimension)
    }


def search_space(config: Config) -> tuple[Axis, ...]:
    """Returns the axes of `tuning.space`, or the default ones; kinds of sections come first.

    Raises:
        UserError: A path is unknown or must not vary, or an end of a range or a choice does not
            fit.
    """
    space = config.tuning.space or default_space(config)
    for path in space:
        _check_allowed(path)
    kinds = {path: space[path] for path in space if is_discriminator(path.rpartition(".")[2])}
    variants = _variants(config, kinds)
    return tuple(
        _checked(path, space[path], variants)
        for path in sorted(space, key=lambda path: path not in kinds)
    )


def leaves(config: Config) -> dict[str, Any]:
    """Returns the values of the sections that a search may vary, by path."""
    document = config.model_dump(mode="json", include=set(_SECTIONS))
    return dict(_leaves(document, ""))


def suggest(axes: tuple[Axis, ...], config: Config, trial: "optuna.Trial") -> dict[str, Any]:
    """Suggests a value for each axis that exists in the suggested kinds of sections."""
    values: dict[str, Any] = {}
    valid = leaves(config)
    for axis in axes:
        if axis.path not in valid:
            continue
        values[axis.path] = axis.suggest(trial)
        if is_discriminator(axis.path.rpartition(".")[2]):
            valid = leaves(with_values(config, values, source="tuning.space"))
    return values


def own_values(axes: tuple[Axis, ...], config: Config) -> dict[str, Any] | None:
    """Returns the configuration's own values; None where the space does not hold them all."""
    current = leaves(config)
    own = [axis for axis in axes if axis.path in current]
    if not all(axis.holds(current[axis.path]) for axis in own):
        return None
    return {axis.path: current[axis.path] for axis in own}


def _leaves(document: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Yields paths and values; an entry of a list has its kind in the path."""
    for key, value in document.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
            continue
        yield f"{prefix}{key}", value
        for entry in value if isinstance(value, list) else ():
            if isinstance(entry, dict):
                settings = {name: value for name, value in entry.items() if name != "kind"}
                yield from _leaves(settings, f"{prefix}{key}.{entry['kind']}.")


def _fits(config: Config, path: str, dimension: Dimension) -> bool:
    try:
        _checked(path, dimension, [config])
    except UserError:
        return False
    return True


def _check_allowed(path: str) -> None:
    section = path.partition(".")[0]
    prefixes = (path, ".".join(path.split(".")[:2]), section)
    reason = next((_REASONS[prefix] for prefix in prefixes if prefix in _REASONS), None)
    if reason is None and section in Config.model_fields and section not in _SECTIONS:
        reason = "it has no effect on what is learnt"
    if reason is not None:
        raise UserError(f"tuning.space: {path} must not vary: {reason}.")


def _variants(config: Config, kinds: Mapping[str, Dimension]) -> list[Config]:
    """Returns the configuration in every combination of kinds that the space allows."""
    for path, dimension in kinds.items():
        if not isinstance(dimension, Choices):
            raise UserError(f"tuning.space: {path} selects a kind; expected choices, got a range.")
    combinations = product(*(d.choices for d in kinds.values() if isinstance(d, Choices)))
    return [
        with_values(config, dict(zip(kinds, chosen, strict=True)), source="tuning.space")
        for chosen in combinations
    ]


def _checked(path: str, dimension: Dimension, variants: list[Config]) -> Axis:
    """Returns the axis, after a check that its ends or choices fit one of the variants."""
    fitting = [variant for variant in variants if path in leaves(variant)]
    if not fitting:
        renamed = old_key(path.split("."))
        if renamed is not None:
            raise UserError(f"tuning.space: {renamed}.")
        valid = sorted({name for variant in variants for name in leaves(variant)})
        close = difflib.get_close_matches(path, valid, n=1, cutoff=0.0)
        raise UserError(
            f"tuning.space: unknown path {path}; did you mean {close[0]}? It must name a value of "
            f"{', '.join(_SECTIONS)}."
        )
    return axis_of(fitting[0], path, dimension, f"tuning.space.{path}")


def axis_of(config: Config, path: str, dimension: Dimension, source: str) -> Axis:
    """Returns an axis, after a check that its ends or choices fit the configuration.

    Args:
        config: Configuration that has the setting.
        path: Path of the setting.
        dimension: Values of the setting.
        source: Place of the dimension, for errors.

    Raises:
        UserError: An end of the range, its step or a choice does not fit.
    """
    if isinstance(dimension, Choices):
        for value in dimension.choices:
            with_values(config, {path: value}, source=source)
        return Axis(path, dimension)
    ends = [
        with_values(config, {path: end}, source=source) for end in (dimension.low, dimension.high)
    ]
    is_integer = all(isinstance(leaves(end)[path], int) for end in ends)
    if is_integer and dimension.step is not None and dimension.step % 1:
        raise UserError(f"{source}: step {dimension.step} of whole numbers; expected a whole one.")
    return Axis(path, dimension, is_integer)
