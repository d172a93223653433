"""Added rows are on the disk once, whatever befalls the disk and the process."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store.core.errors import UserError
from serving.experiment import log_buffer
from serving.experiment.experiment import Experiment, Variant, read_experiment
from serving.experiment.exposure_log import ExposureLog
from serving.experiment.log_rows import (
    EVENTS,
    EXPOSURE_SCHEMA,
    EXPOSURES,
    OUTCOME_SCHEMA,
    Exposure,
    Outcome,
    log_files,
)

NOON = int(datetime(2024, 5, 6, 12, tzinfo=UTC).timestamp()) * 1_000_000
DAY = 86_400_000_000
# No flush but that which a test asks for.
NEVER = 3600.0


def exposure(number=0, timestamp=NOON, **change):
    made = Exposure(
        timestamp, f"r{number}", "e", "a", f"q{number}", False, True, 2, ["x", "y"], [2.0, 1.0],
        "v1", 1.5,
    )  # fmt: skip
    return made._replace(**change)


def read(directory, kind=EXPOSURES):
    """Reads all rows of a log, and checks that there are no other files."""
    files = log_files(directory / kind, ["timestamp"])
    assert sorted(p for p in directory.rglob("*.*") if p.is_file()) == sorted(
        log_files(directory, ["timestamp"])
    )
    return pa.concat_tables([pq.ParquetFile(file).read() for file in files]) if files else None


def wait_until(true):
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def disk(monkeypatch):
    """Makes a disk that can be made to fail."""
    state = {"fails": False, "tries": 0}
    write = log_buffer.write_parquet

    def guarded(path, table):
        state["tries"] += 1
        if state["fails"]:
            raise OSError(28, "No space left on device")
        write(path, table)

    monkeypatch.setattr(log_buffer, "write_parquet", guarded)
    return state


def test_rows_come_back_as_they_were_added(tmp_path):
    outcome = Outcome(NOON, "q0", "x", "purchase", 9.5, "r0")
    with closing(ExposureLog(tmp_path, seconds=NEVER)) as log:
        log.add_exposure(exposure())
        log.add_exposure(exposure(1, item_ids=[], scores=[], query_id="日本"))
        log.add_outcome(outcome)
        log.add_outcome(Outcome(NOON, "q0", "x", "click"))
    shown, happened = read(tmp_path), read(tmp_path, EVENTS)
    assert shown.schema.equals(EXPOSURE_SCHEMA)
    assert happened.schema.equals(OUTCOME_SCHEMA)
    first, second = shown.to_pylist()
    moment = datetime(2024, 5, 6, 12, tzinfo=UTC)
    assert first == exposure()._asdict() | {"timestamp": moment}
    assert (second["query_id"], second["item_ids"]) == ("日本", [])
    assert happened.to_pylist() == [
        outcome._asdict() | {"timestamp": moment},
        Outcome(NOON, "q0", "x", "click")._asdict() | {"timestamp": moment},
    ]


def test_files_are_of_one_date_in_utc(tmp_path):
    midnight = NOON // DAY * DAY
    with closing(ExposureLog(tmp_path, seconds=NEVER)) as log:
        for timestamp in (midnight - 1, midnight, midnight + DAY - 1):
            log.add_exposure(exposure(timestamp=timestamp))
    counts = {p.parent.name: pq.read_metadata(p).num_rows for p in tmp_path.rglob("*.parquet")}
    assert counts == {"date=2024-05-05": 1, "date=2024-05-06": 2}


def test_a_full_buffer_and_a_full_while_are_written_without_being_asked(tmp_path):
    with closing(ExposureLog(tmp_path / "full", max_rows=3, seconds=NEVER)) as log:
        for number in range(3):
            log.add_exposure(exposure(number))
        wait_until(lambda: any((tmp_path / "full").rglob("part-*.parquet")))
    assert len(read(tmp_path / "full")) == 3
    with closing(ExposureLog(tmp_path / "while", seconds=0.01)) as log:
        log.add_exposure(exposure())
        wait_until(lambda: any((tmp_path / "while").rglob("part-*.parquet")))


def test_many_threads_lose_and_repeat_nothing(tmp_path):
    with closing(ExposureLog(tmp_path, max_rows=50, seconds=0.01)) as log:

        def add(thread):
            for number in range(500):
                log.add_exposure(exposure(f"{thread}-{number}"))
                log.add_outcome(Outcome(NOON, f"{thread}-{number}", "x", "click"))

        threads = [threading.Thread(target=add, args=[i]) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    wanted = {f"{thread}-{number}" for thread in range(8) for number in range(500)}
    for kind, prefix in ((EXPOSURES, "q"), (EVENTS, "")):
        ids = read(tmp_path, kind)["query_id"].to_pylist()
        assert len(ids) == len(wanted)
        assert {i.removeprefix(prefix) for i in ids} == wanted
    assert log.dropped == 0


def test_what_a_full_disk_refuses_is_written_when_it_can_be(tmp_path, disk):
    disk["fails"] = True
    with closing(ExposureLog(tmp_path, max_rows=2, seconds=0.01)) as log:
        for number in range(5):
            log.add_exposure(exposure(number))
        wait_until(lambda: disk["tries"] >= 3)
        log.add_exposure(exposure(5))
        disk["fails"] = False
    assert sorted(read(tmp_path)["request_id"].to_pylist()) == [f"r{i}" for i in range(6)]
    assert log.dropped == 0


def test_a_failing_disk_fills_no_memory_and_fails_no_request(tmp_path, disk, monkeypatch):
    monkeypatch.setattr(log_buffer, "_MAX_BYTES", 100_000)
    disk["fails"] = True
    with closing(ExposureLog(tmp_path, max_rows=10, seconds=0.01)) as log:
        for number in range(5000):
            log.add_exposure(exposure(number))
        tries = disk["tries"]
        wait_until(lambda: disk["tries"] > tries)
        kept = 5000 - log.dropped
        assert 0 < kept < 2000
        disk["fails"] = False
    assert len(read(tmp_path)) == kept
    assert log.dropped == 5000 - kept


def test_rows_count_with_the_bytes_of_their_texts(tmp_path, monkeypatch):
    monkeypatch.setattr(log_buffer, "_MAX_BYTES", 100_000)
    long = "\N{BICYCLE}" * 256  # Four bytes each, in memory.
    with closing(ExposureLog(tmp_path, seconds=NEVER)) as log:
        for _ in range(100):
            log.add_outcome(Outcome(NOON, long, long, long, 1.0, long))
            log.add_exposure(exposure(query_id=long, item_ids=[long], scores=[1.0]))
        assert 100 - 100_000 // 4096 < log.dropped < 200


def test_what_the_last_try_cannot_write_is_counted(tmp_path, disk):
    disk["fails"] = True
    log = ExposureLog(tmp_path, seconds=NEVER)
    for number in range(7):
        log.add_exposure(exposure(number))
    log.add_outcome(Outcome(NOON, "q0", "x", "click"))
    log.close()
    assert log.dropped == 8
    log.add_exposure(exposure())  # A request that ends after the server.
    assert log.dropped == 9


def test_a_malformed_row_does_not_hold_up_the_others(tmp_path):
    with closing(ExposureLog(tmp_path, seconds=NEVER)) as log:
        log.add_exposure(exposure(0))
        log.add_exposure(exposure(1, query_id="\ud800"))
        log.add_exposure(exposure(2, k=2**40))
        log.add_exposure(exposure(3, timestamp=2**70))
        log.add_exposure(exposure(4))
    assert read(tmp_path)["request_id"].to_pylist() == ["r0", "r4"]
    assert log.dropped == 3


def test_a_killed_process_loses_what_was_not_yet_written_and_leaves_no_half_file(tmp_path):
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from serving.experiment.exposure_log import ExposureLog\n"
        "from serving.experiment.log_rows import Exposure\n"
        "log = ExposureLog(Path(sys.argv[1]), max_rows=200, seconds=3600)\n"
        "number = 0\n"
        "while True:\n"
        f"    log.add_exposure(Exposure({NOON}, str(number), 'e', 'a', 'q', False, False, 1,\n"
        "                              ['x'], [1.0], 'v', 1.0))\n"
        "    number += 1\n"
        "    print(number, flush=True)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= 3000 and len(list(tmp_path.rglob("part-*.parquet"))) >= 3:
                process.send_signal(signal.SIGKILL)
                break
    files = log_files(tmp_path / EXPOSURES, EXPOSURE_SCHEMA.names)
    tables = [pq.ParquetFile(file).read(["request_id"]) for file in files]
    numbers = sorted(int(i) for i in pa.concat_tables(tables)["request_id"].to_pylist())
    assert numbers == list(range(len(numbers)))


def experiment(share, **change):
    return Experiment(
        name="e",
        salt="s",
        variants=(
            Variant(name="a", bundle="a", share=1 - share),
            Variant(name="b", bundle="b", share=share),
        ),
        created=datetime.now(UTC),
    ).model_copy(update=change)


def test_a_log_is_of_one_division_of_the_queries(tmp_path):
    with closing(ExposureLog(tmp_path, experiment=experiment(0.1))) as log:
        log.add_exposure(exposure())
    # Newer bundles and testers do not divide the queries anew.
    again = experiment(0.1, overrides={"q": "b"})
    ExposureLog(tmp_path, experiment=again).close()
    assert read_experiment(tmp_path) == again
    for other in (experiment(0.2), experiment(0.1, salt="t"), experiment(0.1, name="f"), None):
        with pytest.raises(UserError, match="give a new directory"):
            ExposureLog(tmp_path, experiment=other)
    with closing(ExposureLog(tmp_path / "single")) as log:
        log.add_exposure(exposure(experiment="", variant=""))
    with pytest.raises(UserError, match="has the log of no experiment"):
        ExposureLog(tmp_path / "single", experiment=experiment(0.1))


def test_a_directory_that_cannot_be_written_is_refused_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to"):
        ExposureLog(tmp_path / "file" / "log")


def test_a_directory_of_something_else_is_no_log(tmp_path):
    part = tmp_path / "raw" / "events" / "date=2026-01-01" / "part-00000.parquet"
    part.parent.mkdir(parents=True)
    part.write_text("a log of events that a model is trained with")
    with pytest.raises(UserError, match="raw holds something else, such as events"):
        ExposureLog(tmp_path / "raw")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [part]
