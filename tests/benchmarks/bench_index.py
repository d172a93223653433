"""The kinds of index beside each other, on the vectors of a bundle.

    python tests/benchmarks/bench_index.py BUNDLE [--items 250000]

Of each kind: how long it takes to build, the fastest search that finds 98 % of the exact 100
nearest items, in processor time of one thread, and the bytes of the index. Exact search is the
reference. Queries are the bundle's, so the model must be one without a context.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from feature_store.core.errors import UserError
from feature_store.core.files import mapped_array
from recsys.config.export import ExportConfig
from serving.batch.item_vectors import item_vector_batches
from serving.bundle.manifest import QUERY_VECTORS
from serving.index.build import build_index
from serving.index.kinds import KINDS
from serving.index.vectors import CODES

QUERIES = 500


def main() -> None:
    """Prints one line for each kind and each way to store vectors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--items", type=int, default=250_000)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    vectors = sample(item_vectors(arguments.bundle), arguments.items, rng)
    queries = sample(mapped_array(arguments.bundle / QUERY_VECTORS), QUERIES, rng)
    print(f"{len(vectors):,} items, {vectors.shape[1]} dimensions, {len(queries)} queries")
    for kind in KINDS:
        for stored in CODES:
            settings = ExportConfig(index=kind, vectors=stored, min_ann_recall=0.98)
            began = time.perf_counter()
            try:
                _, report = build_index(vectors, queries, settings)
            except UserError as error:
                print(f"{kind} {stored}: {error}", flush=True)
                continue
            point = report.chosen
            print(
                f"{kind} {stored}: built and measured in {time.perf_counter() - began:.0f} s, "
                f"recall@100 {point.recall:.4f}, median {point.median_us / 1000:.2f} ms, "
                f"p99 {point.p99_us / 1000:.2f} ms, {report.memory_bytes / 2**20:.0f} MiB",
                flush=True,
            )


def item_vectors(bundle: Path) -> np.ndarray:
    """Reads item vectors, [items, dim]."""
    batches = [batch.column("vector") for batch in item_vector_batches(bundle, 100_000)]
    dim = batches[0].type.list_size
    return np.concatenate([batch.flatten().to_numpy().reshape(-1, dim) for batch in batches])


def sample(rows: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Draws rows without repetition, at most as many as there are."""
    if len(rows) <= size:
        return np.asarray(rows)
    return rows[np.sort(rng.choice(len(rows), size, replace=False))]


if __name__ == "__main__":
    main()
