"""The error of sampled mutual information against all items, on a synthetic catalogue.

python tests/benchmarks/bench_mutual_information.py --items 4000000 --sample 1000000 250000
"""

import argparse
import resource
import tempfile
import time
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_store.core.columns import Column, Dense, Ints, Jagged
from feature_store.core.hashing import token_digests
from pipelines.datasets.generate import generate
from pipelines.statistics import mutual_information

KINDS = ("raw", "normalised", "corrected")


def encoded(array: pa.Array) -> Column:
    """Encodes strings and lists as indices and text as a list of words; numbers stay."""
    if pa.types.is_floating(array.type) or pa.types.is_integer(array.type):
        numbers = pc.fill_null(pc.cast(array, pa.float32()), 0.0).to_numpy()
        return Dense(numbers[:, None], array.is_valid().to_numpy(zero_copy_only=False))
    if pa.types.is_string(array.type) and pc.any(pc.match_substring(array, " ")).as_py():
        array = pc.split_pattern(array, " ")
    if pa.types.is_list(array.type):
        lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy().astype(np.int64)
        values = pc.list_flatten(array)
    else:
        lengths = array.is_valid().to_numpy(zero_copy_only=False).astype(np.int64)
        values = array.drop_null()
    return Jagged.from_lengths(values.dictionary_encode().indices.to_numpy(), lengths)


def catalogue(items: int, events: int) -> tuple[dict[str, Column], Ints, Ints]:
    """Returns features, rows sorted by the hash of their ids, and the event count of each row."""
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "log"
        generate(log, events=events, items=items, queries=max(1, events // 50), seed=0)
        table = pq.read_table(log / "items.parquet").combine_chunks()
        seen = pq.read_table(log / "events", columns=["item_id"])["item_id"]
    columns = {name: encoded(table[name].combine_chunks()) for name in table.column_names}
    # There are few distinct words; whole titles add a feature of tens of thousands of values.
    titles = table["title"].combine_chunks().dictionary_encode().indices.to_numpy()
    columns["whole title"] = Jagged.from_lengths(titles, np.ones(len(titles), np.int64))
    ids = table["item_id"].combine_chunks()
    rows = np.argsort(token_digests(ids))
    places = pc.index_in(seen, value_set=ids).to_numpy()
    return columns, rows, np.bincount(places, minlength=len(ids))[rows]


def estimates(
    columns: dict[str, Column], rows: Ints, events: Ints, max_items: int
) -> dict[tuple[str, str], tuple[mutual_information.Estimate, mutual_information.Estimate]]:
    """Estimates the information of every pair, weighted by items and by interactions."""
    mutual_information.MAX_ITEMS = max_items
    found = {}
    for pair in combinations(columns, 2):
        estimate = mutual_information.estimator(columns, rows, *pair)
        found[pair] = estimate(np.ones(len(rows))), estimate(events.astype(np.float64))
    return found


def main() -> None:
    """Prints the errors of each sample size, weighting and kind of estimate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=4_000_000)
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--sample", type=int, nargs="+", default=[1_000_000])
    arguments = parser.parse_args()
    columns, rows, events = catalogue(arguments.items, arguments.events)
    mutual_information._MAX_PRODUCTS = 1 << 62
    start = time.monotonic()
    exact = estimates(columns, rows, events, len(rows))
    print(f"all {len(rows):,} items: {time.monotonic() - start:.0f} s")
    mutual_information._MAX_PRODUCTS = 1 << 27
    for size in arguments.sample:
        start = time.monotonic()
        sample = estimates(columns, rows, events, size)
        print(f"\n{size:,} of them: {time.monotonic() - start:.0f} s")
        for place, weighting in enumerate(("items", "interactions")):
            for kind in KINDS:
                errors = {
                    pair: getattr(sample[pair][place], kind) - getattr(exact[pair][place], kind)
                    for pair in exact
                }
                worst = max(errors, key=lambda pair: abs(errors[pair]))
                mean = np.mean([abs(error) for error in errors.values() if error])
                print(
                    f"{weighting:>12} {kind:<10} mean error {mean:.4f}, worst {errors[worst]:+.4f} "
                    f"of {getattr(exact[worst][place], kind):.4f} ({' and '.join(worst)})"
                )
    print(f"\npeak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB")


if __name__ == "__main__":
    main()
