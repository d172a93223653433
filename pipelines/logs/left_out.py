"""Reasons by which the configuration leaves rows out; there is nothing wrong with these."""

from collections.abc import Mapping

from feature_store.forgotten import FORGOTTEN

LOW_RATING = "rating below min_rating"
OTHER_TYPE = "type not in event_types"
LEFT_OUT = (LOW_RATING, OTHER_TYPE, FORGOTTEN)


def faults(rejected: Mapping[str, int]) -> dict[str, int]:
    """Returns the rejected rows by reason without those that the configuration leaves out."""
    return {reason: rows for reason, rows in rejected.items() if reason not in LEFT_OUT}
