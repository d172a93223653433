"""Exact search for the best items of many queries, as a share of the fastest matrix product.

    python tests/benchmarks/bench_ranking.py [--items 1000000] [--queries 2048] [--dim 64] [-k 100]

One thread, processor time. The vectors are random; each query has 100 items that are excluded. The
fastest product of large fp32 matrices is measured beside each search, and counts as 1; where the
processor multiplies bf16, which the search uses there, so is that of bf16 matrices. With --float32
the search is that of other processors. With --whole, the one that looks at every score runs, too.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import torch

from feature_store.core.columns import Jagged
from recsys import nearest
from recsys.evaluation.ranking import top_items, vector_scorer
from recsys.products import has_bfloat16, product

_PEAK_SIZE = 2048
_EXCLUDED = 100


def processor_seconds(call: Callable[[], Any]) -> float:
    """Measures one call."""
    started = time.process_time()
    call()
    return time.process_time() - started


def peak(kind: torch.dtype) -> float:
    """Measures the fastest product of large matrices, in operations a CPU second."""
    matrix = torch.randn(_PEAK_SIZE, _PEAK_SIZE).to(kind)
    return (
        2 * _PEAK_SIZE**3 / min(processor_seconds(lambda: product(matrix, matrix)) for _ in "12345")
    )


def main() -> None:
    """Prints the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=2048)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("-k", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--float32", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.float32:
        nearest.has_bfloat16 = lambda: False
    rng = np.random.default_rng(0)
    queries, items = (
        torch.nn.functional.normalize(torch.from_numpy(rng.standard_normal((n, given.dim)))).float()
        for n in (given.queries, given.items)
    )
    excluded = Jagged.from_lengths(
        rng.integers(0, given.items, given.queries * _EXCLUDED),
        np.full(given.queries, _EXCLUDED),
    )
    scorer = vector_scorer(queries.numpy(), items.numpy())
    asked = {"num_items": given.items, "excluded": excluded, "k": given.k}
    searches = {"top_items": lambda: top_items(scorer, **asked)}
    if given.whole:
        searches["every score looked at"] = lambda: top_items(lambda rows: scorer(rows), **asked)
    operations = 2 * given.queries * given.items * given.dim
    kinds = [torch.float32, *[torch.bfloat16] * has_bfloat16()]
    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in searches}
    for _ in range(given.rounds):
        for name, search in searches.items():
            best = [peak(kind) for kind in kinds]
            seconds = processor_seconds(search)
            found[name].append((seconds, *(operations / each / seconds for each in best)))
    for name, runs in found.items():
        seconds, *shares = (median(values) for values in zip(*runs, strict=True))
        of_each = (f"{share:.3f} of {kind}" for share, kind in zip(shares, kinds, strict=True))
        print(f"{name}: {seconds:.2f} CPU s, of the fastest product {', '.join(of_each)}")


if __name__ == "__main__":
    main()
