"""Latency and throughput of the server of a bundle, beside raw FAISS search on the same index.

    python tests/benchmarks/bench_serving.py BUNDLE [--seconds 10] [--rate 300] [--soak 0]

The server is a process of its own; the load generator is this one, on the same machine, over
loopback. Prints when it is ready, when its query tower is read, and resident memory; p50, p99 and
requests a second at 1, 8 and 32 connections that ask without a pause; the same at a fixed rate,
where a late answer counts from when it was due; the mean time of each stage; the ratio of a whole
request at one connection to a raw FAISS search for as many items with the same parameters; and what
a request takes that asks for nothing. Where the ranking is fused, whole requests are compared with
those of the towers alone, on the clock and in processor time, with a second server that takes turns
with the first.
With --soak, the bundle is exchanged for a copy of itself every 5 seconds for so long under full
load: every failure is counted, and memory is read before each exchange.
"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

import faiss
import numpy as np
import torch

import serving
from feature_store.core.files import directory_written_atomically
from feature_store.core.manifests import MANIFEST, written_as
from serving.bundle.ids import IdTable
from serving.bundle.manifest import (
    FUSION,
    GOLDEN,
    IDS,
    INDEX,
    BundleManifest,
    read_manifest,
    seal,
)
from serving.index.index import ItemIndex
from serving.recommend.golden import write_golden

K = 10
SWAP_SECONDS = 5.0
TURN_SECONDS = 1.0


def main() -> None:
    """Runs all of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=300.0)
    parser.add_argument("--soak", type=float, default=0.0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    manifest = read_manifest(arguments.bundle)
    print(
        f"{manifest.items:,} items, {manifest.queries:,} queries, {manifest.dim} dimensions, "
        f"{manifest.index.kind} index"
    )
    bodies = questions(arguments.bundle)
    raw = raw_search(arguments.bundle)
    print(f"raw FAISS search for {K} items: p50 {1000 * raw:.3f} ms")
    with Server(arguments.bundle) as server:
        print(f"ready after {server.started:.2f} s, resident {server.resident():.0f} MiB")
        print(f"unknown queries are answered after {server.tower(arguments.bundle):.2f} s")
        asyncio.run(closed_loop(server.port, bodies, 1, 1.0))
        empty = asyncio.run(nothing_asked(server.port))
        print(f"GET /healthz, which computes nothing: p50 {1000 * empty:.3f} ms")
        for connections in (1, 8, 32):
            before = server.stages()
            found = asyncio.run(closed_loop(server.port, bodies, connections, arguments.seconds))
            report(f"{connections} connections", found, arguments.seconds)
            if connections == 1:
                ratio = statistics.median(found.seconds) / raw
                print(f"  the whole request is {ratio:.2f} times raw FAISS search")
                print(f"  mean ms by stage: {means(before, server.stages())}")
        found = asyncio.run(open_loop(server.port, bodies, arguments.rate, arguments.seconds))
        report(f"{arguments.rate:.0f} requests/s", found, arguments.seconds)
        print(f"resident {server.resident():.0f} MiB")
    if manifest.fusion is not None:
        compare_with_towers(arguments.bundle, bodies, arguments.seconds)
    if arguments.soak:
        soak(arguments.bundle, bodies, arguments.soak)


class Load:
    """The record of a load generator."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.failures = 0


class Server:
    """`recsys serve` in a process of its own."""

    def __init__(self, bundle: Path, *options: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = [sys.executable, "-m", "recsys.cli", "serve", str(bundle), "--port"]
        began = time.perf_counter()
        self.process = subprocess.Popen([*command, str(self.port), *options])
        while True:
            try:
                status, _ = asyncio.run(once(self.port, b"GET", b"/readyz", b""))
                break
            except OSError:
                if self.process.poll() is not None:
                    raise SystemExit("the server did not start") from None
                time.sleep(0.01)
        assert status == 200
        self.began = began
        self.started = time.perf_counter() - began

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *error: object) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait()

    def tower(self, bundle: Path) -> float:
        """Measures the seconds from the start until the query tower answers."""
        body = json.dumps({"history": [IdTable.read(bundle / IDS, "item")[0]]}).encode()
        status, _ = asyncio.run(once(self.port, b"POST", b"/recommend", body))
        assert status == 200
        return time.perf_counter() - self.began

    def resident(self) -> float:
        """Returns the process's own mebibytes: pages of mapped files are the system's."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return int(next(x for x in lines if x.startswith("RssAnon")).split()[1]) / 1024

    def processor(self) -> float:
        """Returns the processor seconds of all threads so far."""
        after_name = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")

    def stages(self) -> dict[str, tuple[float, float]]:
        """Returns seconds and number of each stage so far."""
        _, body = asyncio.run(once(self.port, b"GET", b"/metrics", b""))
        found: dict[str, list[float]] = {}
        for line in body.decode().splitlines():
            for place, suffix in enumerate(("_sum", "_count")):
                if line.startswith(f"recsys_stage_seconds{suffix}"):
                    stage = line.split('stage="')[1].split('"')[0]
                    found.setdefault(stage, [0.0, 0.0])[place] = float(line.split()[-1])
        return {stage: (each[0], each[1]) for stage, each in found.items()}


def questions(bundle: Path) -> list[bytes]:
    """Makes bodies of POST /recommend for a sample of the bundle's queries."""
    ids = IdTable.read(bundle / IDS, "query")
    rows = np.random.default_rng(0).choice(len(ids), min(len(ids), 2000), replace=False)
    return [json.dumps({"query_id": ids[int(row)], "k": K}).encode() for row in rows]


def raw_search(bundle: Path) -> float:
    """Measures the median seconds of a search by FAISS alone, one query at a time, one thread."""
    recommender = serving.load(bundle)
    ids = IdTable.read(bundle / IDS, "query")
    rows = np.random.default_rng(0).choice(len(ids), min(len(ids), 1000), replace=False)
    vectors = recommender.encode([ids[int(row)] for row in rows])
    index = ItemIndex.read(bundle / INDEX, recommender.manifest.index.kind).kind.index
    times = []
    for _ in range(2):  # The first pass reads the index into memory; only the second counts.
        times.clear()
        for vector in vectors:
            began = time.perf_counter()
            index.search(vector[None], K)
            times.append(time.perf_counter() - began)
    return statistics.median(times)


async def once(port: int, method: bytes, path: bytes, body: bytes) -> tuple[int, bytes]:
    """Sends one request on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    found = await ask(reader, writer, method, path, body)
    writer.close()
    return found


async def ask(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    method: bytes,
    path: bytes,
    body: bytes,
) -> tuple[int, bytes]:
    """Sends a request by hand: a generator must cost less than what it measures."""
    writer.write(
        method + b" " + path + b" HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        b"content-length: " + str(len(body)).encode() + b"\r\n\r\n" + body
    )
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    return int(head[9:12]), await reader.readexactly(length)


async def nothing_asked(port: int, requests: int = 2000) -> float:
    """Measures the median seconds that HTTP and both processes take for any request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    times = []
    for _ in range(requests):
        began = time.perf_counter()
        await ask(reader, writer, b"GET", b"/healthz", b"")
        times.append(time.perf_counter() - began)
    writer.close()
    return statistics.median(times)


async def closed_loop(port: int, bodies: list[bytes], connections: int, seconds: float) -> Load:
    """Runs connections that ask again as soon as they have an answer."""
    load, end = Load(), time.perf_counter() + seconds

    async def client(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        place = number
        while (began := time.perf_counter()) < end:
            status, _ = await ask(
                reader, writer, b"POST", b"/recommend", bodies[place % len(bodies)]
            )
            load.failures += status != 200
            load.seconds.append(time.perf_counter() - began)
            place += connections
        writer.close()

    await asyncio.gather(*(client(number) for number in range(connections)))
    return load


async def open_loop(port: int, bodies: list[bytes], rate: float, seconds: float) -> Load:
    """Sends requests at a fixed rate whether or not the earlier ones were answered."""
    load, began = Load(), time.perf_counter()
    idle: asyncio.Queue = asyncio.Queue()
    for _ in range(32):
        idle.put_nowait(await asyncio.open_connection("127.0.0.1", port))

    async def request(number: int, due: float) -> None:
        connection = await idle.get()
        status, _ = await ask(*connection, b"POST", b"/recommend", bodies[number % len(bodies)])
        load.failures += status != 200
        load.seconds.append(time.perf_counter() - due)
        idle.put_nowait(connection)

    tasks = []
    for number in range(int(rate * seconds)):
        due = began + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(request(number, due)))
    await asyncio.gather(*tasks)
    return load


def report(name: str, load: Load, seconds: float) -> None:
    """Prints one line."""
    p50, p99 = np.percentile(np.array(load.seconds) * 1000, [50, 99])
    print(
        f"{name}: p50 {p50:.2f} ms, p99 {p99:.2f} ms, "
        f"{len(load.seconds) / seconds:.0f} answers/s, {load.failures} failures"
    )


def compare_with_towers(bundle: Path, bodies: list[bytes], seconds: float) -> None:
    """Compares whole requests at one connection with those of the same bundle without channels."""
    alone = bundle.with_name(f"{bundle.name}-alone-{os.getpid()}")
    without_channels(bundle, alone)
    try:
        with Server(bundle) as fused, Server(alone) as towers:
            servers = {"fused": fused, "towers alone": towers}
            loads = {name: Load() for name in servers}
            used = dict.fromkeys(servers, 0.0)
            for server in servers.values():
                server.tower(bundle)
                asyncio.run(closed_loop(server.port, bodies, 1, TURN_SECONDS))
            for _ in range(max(1, round(seconds / TURN_SECONDS))):
                for name, server in servers.items():
                    before = server.processor()
                    turn = asyncio.run(closed_loop(server.port, bodies, 1, TURN_SECONDS))
                    used[name] += server.processor() - before
                    loads[name].seconds += turn.seconds
                    loads[name].failures += turn.failures
        found = {}
        for name, load in loads.items():
            report(f"{name}, taking turns", load, seconds)
            found[name] = statistics.median(load.seconds), used[name] / len(load.seconds)
            print(f"  processor time of a request: {1000 * found[name][1]:.2f} ms")
        clock, processor = (
            one / other for one, other in zip(found["fused"], found["towers alone"], strict=True)
        )
        print(
            f"a whole request of the fused ranking takes {clock:.2f} times as long as one of the "
            f"towers alone, and {processor:.2f} times the processor time"
        )
    finally:
        shutil.rmtree(alone, ignore_errors=True)


def without_channels(bundle: Path, alone: Path) -> None:
    """Copies a bundle without its channels, and without the answers that they gave."""
    with directory_written_atomically(alone, written_as(BundleManifest)) as directory:
        left_out = shutil.ignore_patterns(FUSION, GOLDEN, MANIFEST)
        shutil.copytree(
            bundle, directory, dirs_exist_ok=True, copy_function=os.link, ignore=left_out
        )
        write_golden(directory, [])
        seal(directory, read_manifest(bundle).model_copy(update={"fusion": None}))


def means(before: dict, after: dict) -> str:
    """Computes the time of each stage between two readings."""
    parts = []
    for stage, (seconds, count) in after.items():
        earlier = before.get(stage, (0.0, 0.0))
        mean = (seconds - earlier[0]) / max(1.0, count - earlier[1])
        parts.append(f"{stage} {1000 * mean:.3f}")
    return ", ".join(parts)


def soak(bundle: Path, bodies: list[bytes], seconds: float) -> None:
    """Runs full load on a bundle that is exchanged again and again."""
    served = bundle.with_name(f"{bundle.name}-soak-{os.getpid()}")
    exchange(bundle, served, 0)
    try:
        with Server(served, "--reload-seconds", "1") as server:
            server.tower(bundle)
            resident = []

            async def both() -> Load:
                load = asyncio.create_task(closed_loop(server.port, bodies, 8, seconds))
                for number in range(1, int(seconds / SWAP_SECONDS)):
                    await asyncio.sleep(SWAP_SECONDS)
                    resident.append(server.resident())
                    await asyncio.to_thread(exchange, bundle, served, number)
                return await load

            load = asyncio.run(both())
            report(f"soak of {seconds:.0f} s", load, seconds)
            _, text = asyncio.run(once(server.port, b"GET", b"/metrics", b""))
            swaps = [x for x in text.decode().splitlines() if x.startswith("recsys_swaps_total")]
            print(f"  {'; '.join(swaps)}")
            print(f"  resident, MiB: {' '.join(f'{size:.0f}' for size in resident)}")
    finally:
        shutil.rmtree(served, ignore_errors=True)


def exchange(bundle: Path, served: Path, number: int) -> None:
    """Puts a bundle of the same answers and another seal in the place of the last one."""
    with directory_written_atomically(served, written_as(BundleManifest)) as directory:
        shutil.copytree(bundle, directory, dirs_exist_ok=True, copy_function=os.link)
        manifest = read_manifest(directory)
        (directory / "manifest.json").unlink()
        seal(directory, manifest.model_copy(update={"fingerprint": f"{number:016x}"}))


if __name__ == "__main__":
    main()
