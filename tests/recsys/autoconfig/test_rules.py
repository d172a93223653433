"""Rules that follow the size of a log."""

import pytest

from recsys.autoconfig import rules


def size(events: int, *, single_visits: bool = False) -> rules.Size:
    training, held_out = round(0.8 * events), round(0.1 * events)
    return rules.Size(events, training, held_out, items=1_000, single_visits=single_visits)


@pytest.mark.parametrize(
    ("events", "single_visits", "expected"),
    [
        (100_000, False, 1),
        (1_000_000, False, 1),
        (3_000_000, False, 4),  # 6 epochs.
        (20_000_000, False, 4),  # 2 epochs.
        (100_000_000, False, 8),  # A single epoch.
        (200_000, True, 4),
        (20_000, True, 3),  # 62 steps an epoch.
        (1_000, True, 1),
    ],
)
def test_short_trainings_are_validated_early(
    events: int, single_visits: bool, expected: int
) -> None:
    found = size(events, single_visits=single_visits)
    assert rules.validations_per_epoch(found) == expected
    assert rules.patience(found) >= expected  # No training ends within its first epoch.
    if expected > 3:
        assert expected * min(2, rules.epochs(found)) >= 8
