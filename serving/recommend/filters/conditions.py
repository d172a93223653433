"""Conditions of a filter, as a request or a caller gives them.

"Drama", ["Drama", "Comedy"]     one of some values
{"ge": 1990, "lt": 2000}         a range of numbers or dates
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from feature_store.core.arrow import token_of

# Values of a feature, as those of the log are written, or bounds by operator.
Condition = list[str] | dict[str, float | str]
OPERATORS = ("ge", "gt", "le", "lt")
# Names of the bounds in other programs.
_ELSEWHERE = {
    **{"gte": "ge", ">=": "ge", "min": "ge", "from": "ge", ">": "gt"},
    **{"lte": "le", "<=": "le", "max": "le", "to": "le", "<": "lt"},
}


def condition_of(value: object) -> Condition:
    """Reads a condition: a value, several values, or bounds by operator.

    True is "true" and not 1, and 3.0 is 3, as in the log.

    Raises:
        ValueError: It is none of them; the text is the rest of a sentence.
    """
    if isinstance(value, Mapping):
        return _bounds(value)
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_token(each) for each in value]
    return [_token(value)]


def _bounds(given: Mapping[Any, object]) -> dict[str, float | str]:
    bounds: dict[str, float | str] = {}
    for name, bound in given.items():
        if name not in OPERATORS:
            hint = f"; did you mean {_ELSEWHERE[name]!r}?" if name in _ELSEWHERE else ""
            raise ValueError(f"{name!r} is no bound; expected some of {', '.join(OPERATORS)}{hint}")
        bounds[name] = _bound(name, bound)
    if not bounds:
        raise ValueError(f"{{}} bounds nothing; expected some of {', '.join(OPERATORS)}")
    return bounds


def _bound(name: str, given: object) -> float | str:
    bound = _plain(given)
    if isinstance(bound, str):
        return bound
    if isinstance(bound, bool) or not isinstance(bound, int | float):
        raise ValueError(f"{name} is {given!r}; expected a number or a date")
    try:
        number = float(bound)
    except OverflowError:  # An integer of hundreds of digits.
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{name} is no finite number; expected a number or a date")
    return number


def _token(given: object) -> str:
    token = token_of(_plain(given))
    if token is None:
        raise ValueError(f"{given!r} is no value; expected a string, a finite number or a boolean")
    return token


def _plain(value: object) -> object:
    """Converts a scalar of numpy to that of Python."""
    return value.item() if isinstance(value, np.generic) else value
