"""Names of columns: their words, and whether they are known ones."""

import re
from collections.abc import Iterable


def normalised(name: str) -> str:
    """Removes case and punctuation from a name: `User_ID` and `userId` are the same."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def words_of(name: str) -> list[str]:
    """Splits a name into words: `movieTitle` and `movie_title` are movie and title."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+|\d+", name)]


def named(columns: Iterable[str], names: str) -> list[str]:
    """Returns the columns that have one of the names, the most preferred first.

    A column inside others, such as `payload.user.id`, also has the names `user.id` and `id`.

    Args:
        columns: Names of columns.
        names: Known names, `normalised` and separated by blanks, in order of preference.
    """
    order = names.split()
    preference: dict[str, tuple[int, int]] = {}
    for name in columns:
        parts = name.split(".")
        known = [normalised(".".join(parts[depth:])) for depth in range(len(parts))]
        matches = [(depth, order.index(k)) for depth, k in enumerate(known) if k in order]
        if matches:
            preference[name] = matches[0]
    return sorted(preference, key=lambda name: preference[name])
