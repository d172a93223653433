"""Cost of asynchronous checkpoints: step times with and without them.

python tests/benchmarks/bench_checkpoint.py [--megabytes 300] [--steps 50] [--rounds 7]

Trains a model of two tables in this process. A round is two blocks of steps, the second with one
checkpoint that begins after its first step, so that other load on the machine slows both alike; the
medians are printed. `while one is written` counts the steps with a checkpoint in flight.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from recsys.checkpoint.writer import CheckpointWriter
from recsys.training.launch import single_process_group
from tests.support.toy import CPU, ToyTraining, progress, toy_config, toy_writer

_DIM, _WIDTH = 64, 256
_WARM_STEPS = 10


def main() -> None:
    """Measures the rounds and prints their medians."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--megabytes", type=int, default=300, help="size of both tables")
    parser.add_argument("--batch-size", type=int, default=8192)
    parser.add_argument("--steps", type=int, default=50, help="steps of a block")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1, help="threads of training")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = options.megabytes * 2**20 // (2 * 4 * _DIM)
    with single_process_group(CPU), tempfile.TemporaryDirectory() as directory:
        config = toy_config(keep_checkpoints=1)
        toy = ToyTraining(config, rows, _DIM, _WIDTH)
        writer = toy_writer(Path(directory), config)
        toy.train(_WARM_STEPS, options.batch_size)
        _save(toy, writer)  # The first save allocates the memory of the copy.
        writer.wait()
        found = [
            _round(toy, writer, options.batch_size, options.steps) for _ in range(options.rounds)
        ]
    plain, busy, stalls, ratios, whole = zip(*found, strict=True)
    print(f"tables of {options.megabytes} MB, {options.threads} threads, {options.rounds} rounds")
    print(f"a step without checkpoints      {1e3 * median(plain):7.1f} ms")
    print(f"a step while one is written     {1e3 * median(busy):7.1f} ms")
    print(f"ratio of the two                {median(ratios):7.3f}")
    print(f"copying, which training awaits  {1e3 * median(stalls):7.1f} ms")
    print(f"a block with one to without     {median(whole):7.3f}, {options.steps} steps")


def _round(
    toy: ToyTraining, writer: CheckpointWriter, batch_size: int, steps: int
) -> tuple[float, float, float, float, float]:
    """Returns the seconds of a step without and with a write and of the stall, then two ratios.

    The ratios are those of the two steps and of the two blocks.
    """
    plain = [_step(toy, batch_size) for _ in range(steps)]
    busy: list[float] = []
    started = time.perf_counter()
    _step(toy, batch_size)
    stall = _save(toy, writer)
    for _ in range(steps - 1):
        in_flight = writer.is_busy
        seconds = _step(toy, batch_size)
        if in_flight:
            busy.append(seconds)
    block = time.perf_counter() - started
    writer.wait()
    ratio = median(busy) / median(plain)
    return median(plain), median(busy), stall, ratio, block / sum(plain)


def _step(toy: ToyTraining, batch_size: int) -> float:
    started = time.perf_counter()
    toy.train(1, batch_size)
    return time.perf_counter() - started


def _save(toy: ToyTraining, writer: CheckpointWriter) -> float:
    started = time.perf_counter()
    writer.save(toy.state(), progress(toy.step))
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
