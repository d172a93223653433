"""Sentences about held-out pairs whose query had the item before."""

from collections import Counter
from collections.abc import Mapping

from pipelines.settings import Repeats

# Share of held-out pairs from which those that are left out may be the ones that matter.
_MANY = 0.2


def repeats_sentences(counts: Mapping[str, int], split: str, repeats: Repeats) -> list[str]:
    """Returns what becomes of held-out pairs whose query had the item before, or is the item.

    Args:
        counts: Counts of `Task.counts`.
        split: Name of the split.
        repeats: Setting `data.repeats` of the data.
    """
    counts, sentences = Counter(counts), []  # Earlier versions did not count all of them.
    if repeats == "allow":
        n, ranked = counts["repeated"], counts["held_out"]
        sentences.append(
            f"{_pairs(n, ranked, split)} are items that the query had before; they are ranked like "
            "all others (data.repeats: allow)"
        )
    elif counts["already_seen"]:
        pairs = _pairs(counts["already_seen"], _total(counts), split)
        sentence = f"{pairs} are left out, because the query had the item before"
        if leaves_many_out(counts):
            sentence += "; if queries come back to items, set data.repeats: allow"
        sentences.append(sentence)
    if counts["itself"]:
        pairs = _pairs(counts["itself"], _total(counts), split)
        sentences.append(f"{pairs} are left out, because the item is the query itself")
    return sentences


def leaves_many_out(counts: Mapping[str, int]) -> bool:
    """Returns whether so many pairs are left out that the rest may be another task."""
    return counts.get("already_seen", 0) >= _MANY * max(1, _total(counts))


def _total(counts: Mapping[str, int]) -> int:
    return sum(counts.get(name, 0) for name in ("held_out", "already_seen", "itself"))


def _pairs(some: int, total: int, split: str) -> str:
    share = f" ({some / total:.1%})" if total else ""
    return f"{some:,} of {total:,} held-out pairs of the {split} split{share}"
