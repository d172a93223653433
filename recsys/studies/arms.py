"""The arms of a study: the paper's objectives, or those of the configuration, with their trials."""

from collections.abc import Mapping
from typing import Any

import optuna

from feature_store.core.errors import UserError
from recsys.config.config import Config
from recsys.config.load import with_values
from recsys.config.study import Arm, method_arm
from recsys.tuning.space import axis_of

_SEED = 0

# Settings that a study sets for all of its trainings.
_SET_BY_STUDY = ("training.seed", "training.ray", "training.start")

_OF_THE_PAPER = ("none", "feature_dropout", "spread_out", "rfm", "cfm")


def default_arms() -> dict[str, Arm]:
    """Returns the paper's comparison: no self-supervision, its two baselines, RFM and CFM."""
    return {method: method_arm(method) for method in _OF_THE_PAPER}


def arms_of(config: Config) -> dict[str, Arm]:
    """Returns the arms of the configuration, else the paper's, each checked against it.

    Raises:
        UserError: A path or a value does not fit the configuration.
    """
    arms = dict(config.study.arms) or default_arms()
    if config.study.baseline not in arms:
        raise UserError(
            f"study.baseline {config.study.baseline!r} is none of the arms: {', '.join(arms)}"
        )
    for name, arm in arms.items():
        for path in (*arm.values, *arm.space):
            if path.split(".")[0] not in ("model", "loss", "ssl", "training"):
                raise UserError(
                    f"study.arms.{name}: {path} is not of model, loss, ssl or training; all arms "
                    "read the same data."
                )
            if ".".join(path.split(".")[:2]) in _SET_BY_STUDY:
                raise UserError(
                    f"study.arms.{name}: {path} has no effect, for the study sets it for all arms; "
                    "remove it."
                )
        trials_of(config, name, arm, 2)
    return arms


def trials_of(config: Config, name: str, arm: Arm, trials: int) -> list[dict[str, Any]]:
    """Returns the values to try of an arm: the configured ones, then random ones, by path.

    They are the same at every call.

    Args:
        config: Configuration that the paths lead into.
        name: Name of the arm, for errors.
        arm: Values and search space of the arm.
        trials: Number of values; fewer where the space has no more.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=_SEED))
    own = checked(config, name, arm.values)
    axes = [
        axis_of(own, path, dimension, f"study.arms.{name}.space.{path}")
        for path, dimension in arm.space.items()
    ]
    tried: list[dict[str, Any]] = [dict(arm.values)]
    for _ in range(20 * trials):
        if len(tried) >= trials or not axes:
            break
        trial = study.ask()
        values = {**arm.values, **{axis.path: axis.suggest(trial) for axis in axes}}
        if values not in tried:
            tried.append(values)
    for values in tried:
        checked(config, name, values)
    return tried


def checked(config: Config, name: str, values: Mapping[str, Any]) -> Config:
    """Returns the configuration with an arm's values."""
    return with_values(config, values, source=f"study.arms.{name}")
