"""Opening of a page: the verdict in one sentence, and checks that pass or fail."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

Mark = Literal["better", "no different", "worse", "cannot tell"]
State = Literal["passes", "look", "fails", "not known"]
# No colour means anything by itself: a sign goes with it.
SIGNS: dict[Mark, str] = {"better": "▲", "no different": "=", "worse": "▼", "cannot tell": "?"}
STATE_SIGNS: dict[State, str] = {"passes": "✓", "look": "!", "fails": "✗", "not known": "?"}


@dataclass(frozen=True)
class Judged:
    """A part of a verdict, such as that on the tail.

    Attributes:
        name: Name of what is judged.
        mark: Judgement.
        text: Figures that it rests on, or the reason why nothing can be told.
    """

    name: str
    mark: Mark
    text: str = ""


def summed_up(groups: Sequence[Judged]) -> tuple[Mark, str]:
    """Returns the mark of a page, and its words where they are not the mark's own.

    What is worse in one part is not better, whatever it is on the whole: no gate lets it pass.

    Args:
        groups: Judgement on the whole, then those on its parts.
    """
    whole, *parts = groups
    worse = [part.name for part in parts if part.mark == "worse"]
    if not worse or whole.mark == "worse":
        return whole.mark, ""
    return "worse", f"worse in {listed(worse)}"


def listed(names: Sequence[str]) -> str:
    """Returns names as they stand in a sentence, such as `torso, tail and cold`."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


@dataclass(frozen=True)
class Verdict:
    """The first thing that a page says.

    Attributes:
        mark: Judgement on the whole.
        sentence: Judgement in one sentence.
        groups: Judgements on its parts.
        todo: Sentence that says what to do next; empty: nothing.
        word: Words beside the sign; empty: those of the mark.
    """

    kind: ClassVar[str] = "verdict"

    mark: Mark
    sentence: str
    groups: Sequence[Judged] = ()
    todo: str = ""
    word: str = ""

    @property
    def label(self) -> str:
        """Sign and words of the mark."""
        return f"{SIGNS[self.mark]} {self.word or self.mark}"


@dataclass(frozen=True)
class Check:
    """A card that says whether something is as it should be.

    Attributes:
        name: Name of what is checked.
        state: Result; `look` is for people to decide.
        text: Figures, and what is expected, in a sentence.
        see: Key of the section that has more; empty: there is none.
    """

    name: str
    state: State
    text: str
    see: str = ""

    @property
    def label(self) -> str:
        """Sign and words of the state."""
        return f"{STATE_SIGNS[self.state]} {self.state}"


@dataclass(frozen=True)
class Checks:
    """Cards beside each other."""

    kind: ClassVar[str] = "checks"

    checks: Sequence[Check]


Opening = Verdict | Checks
