"""The arms of a study: the paper's objectives, or those of the configuration, with their trials."""

from collections.abc import Mapping
from typing import Any

import optuna

from feature_store.core.errors import UserError
from recsys.config.config import Config
from recsys.config.load import with_values
from recsys.config.study import Arm
from recsys.config.tuning import Choices, Dimension, Range
from recsys.tuning.space import Axis

_SEED = 0

# What each objective may tune; as many trials for each, so that none wins by a longer search.
_SHARED: dict[str, Dimension] = {
    "model.dropout": Choices(choices=(0.2, 0.3, 0.5)),
    "loss.id_dropout": Choices(choices=(0.0, 0.1, 0.3)),
}
_MASKING: dict[str, Dimension] = {
    **_SHARED,
    "ssl.alpha": Range(low=0.03, high=1.0, log=True),
    "ssl.temperature": Range(low=0.05, high=0.5, log=True),
    "ssl.value_dropout": Choices(choices=(0.0, 0.1, 0.3)),
}
_OBJECTIVES: dict[str, dict[str, Dimension]] = {
    "none": _SHARED,
    "feature_dropout": {**_SHARED, "ssl.rate": Choices(choices=(0.05, 0.1, 0.2, 0.4))},
    "spread_out": {**_SHARED, "ssl.alpha": Range(low=0.03, high=3.0, log=True)},
    "rfm": _MASKING,
    "cfm": _MASKING,
}


def default_arms() -> dict[str, Arm]:
    """The paper's comparison: no self-supervision, its two baselines, RFM and CFM."""
    return {
        method: Arm(values={"ssl.method": method}, space=space)
        for method, space in _OBJECTIVES.items()
    }


def arms_of(config: Config) -> dict[str, Arm]:
    """Those of the configuration, else the paper's; each is checked against the configuration.

    Raises:
        UserError: A path or a value is not of the configuration.
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
        trials_of(config, name, arm, 2)
    return arms


def trials_of(config: Config, name: str, arm: Arm, trials: int) -> list[dict[str, Any]]:
    """What to try of an arm: the configured values, then random ones, the same at every call.

    Args:
        config: Whose paths they are.
        name: Of the arm, for errors.
        arm: Its values and its space.
        trials: How many; fewer where the space has no more.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=_SEED))
    axes = [Axis(path, dimension) for path, dimension in arm.space.items()]
    found: list[dict[str, Any]] = [dict(arm.values)]
    for _ in range(20 * trials):
        if len(found) >= trials or not axes:
            break
        asked = study.ask()
        values = {**arm.values, **{axis.path: axis.suggest(asked) for axis in axes}}
        if values not in found:
            found.append(values)
    for values in found:
        checked(config, name, values)
    return found


def checked(config: Config, name: str, values: Mapping[str, Any]) -> Config:
    """The configuration with an arm's values."""
    return with_values(config, values, source=f"study.arms.{name}")
