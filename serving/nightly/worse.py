"""A new model that is worse than the champion: why it is kept out, and how to take it anyway."""

from collections.abc import Sequence

from serving.exporting.champion import Judgement
from serving.nightly.outcome import Outcome


def better_but_kept(finished: Sequence[Outcome], champion: str | None) -> int:
    """Returns the days on which a champion stayed although the new model was better overall.

    Args:
        finished: Outcomes of the earlier days, in order.
        champion: Version of the champion.
    """
    last = finished[-1] if finished else None
    return last.better_but_kept if last is not None and last.champion == champion else 0


def why_worse(judgement: Judgement, days: int, name: str) -> str:
    """Returns why the champion stays, and what to do where the model is better overall.

    Args:
        judgement: Comparison with the champion.
        days: Number of days, up to this one, on which the champion stayed nevertheless.
        name: Name of the registered model.
    """
    reason = f"worse than the champion (A): {judgement.sentence()}"
    if judgement.comparison.verdict != "better":
        return reason
    on = "for the first time" if days == 1 else f"on {days} days so far"
    return (
        f"{reason}; {on} this champion stays although the new model is better overall: "
        f"`recsys export CONFIG --may-be-worse` and then `recsys promote {name}` make the new one "
        "the champion all the same"
    )
