"""The clock of the events: how `prepare` reads their times, and what it says about them."""

from feature_store.core.errors import UserError
from pipelines.logs.clock import UNDERSTOOD, UNIT_NAMES, Clock, Recognised, recognise_column
from pipelines.logs.sampling import table_of
from pipelines.prepare.job import Job


def find_clock(job: Job) -> Clock:
    """Finds how the times of the events are read, from a sample, and says what was guessed.

    Raises:
        UserError: The configuration does not say how, and the values do not tell.
    """
    columns = job.data.columns
    name, unit = columns.timestamp, columns.timestamp_unit
    if name is None:
        return Clock(None, False)
    found = recognise_column(table_of(job.sources.events), name, job.as_of, unit)
    if unit is not None:
        _warn(job, name, found)
        # The user has chosen it: values that it does not read are put aside.
        return Clock(unit, found.clock.is_real)
    if found.problem is not None and not found.is_empty:
        raise UserError(f"events: column {name!r} {found.problem}. {_remedy(found)}")
    if found.clock.unit is not None:
        job.progress.note(f"times: {name!r} is read as {_reading(found)}")
    _warn(job, name, found)
    return found.clock


def _reading(found: Recognised) -> str:
    assert found.clock.unit is not None
    if found.clock.is_real:
        return f"{UNIT_NAMES[found.clock.unit]}, {found.span}"
    return f"numbers that put events in order, because they are no dates, such as {found.example}"


def _warn(job: Job, name: str, found: Recognised) -> None:
    if found.doubt:
        job.progress.note(f"WARNING: column {name!r}: {found.doubt}. {_remedy(found)}")


def _remedy(found: Recognised) -> str:
    if found.choices:
        which = " or ".join(str(unit or "null") for unit in found.choices)
        case = "Say which" if len(found.choices) > 1 else "If it is that"
        return f"{case}: set data.columns.timestamp_unit to {which}."
    return (
        f"Understood are {UNDERSTOOD}. Convert it, set data.columns.timestamp_unit, or set "
        "data.columns.timestamp to another column or null."
    )
