"""A server answers what it can before its query tower is read."""

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

import serving
import serving.recommend.load as load
from feature_store.core.errors import UserError
from serving.server.build import ServerSettings, build
from tests.serving.server.test_server import recommend, request
from tests.support.servers import running

KNOWN, UNKNOWN = {"query_id": "3"}, {"query_id": "nobody", "history": ["i2", "i4"]}


def test_a_server_starts_without_torch():
    program = "import sys, serving.server.launch; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_who_needs_the_tower_waits_and_holds_up_nobody(exported, monkeypatch):
    may_read, read_now = Event(), load.read_tower

    def when_allowed(*arguments):
        assert may_read.wait(20)
        return read_now(*arguments)

    monkeypatch.setattr(load, "read_tower", when_allowed)
    with running(build(ServerSettings(exported, reload_seconds=0))) as port:
        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(recommend, port, UNKNOWN)
            assert recommend(port, KNOWN)[0] == 200
            assert request(port, "GET", "/readyz")[0] == 200
            assert not waiting.done()
            may_read.set()
            status, answer = waiting.result()
        assert status == 200
        expected = serving.load(exported).recommend(
            "nobody", options=serving.RecommendOptions(history=UNKNOWN["history"])
        )
        assert [i["item_id"] for i in answer["items"]] == [i.item_id for i in expected.items]
        assert recommend(port, UNKNOWN)[0] == 200


def test_what_is_verified_later_is_verified(exported, tmp_path):
    copy = shutil.copytree(exported, tmp_path / "copy")
    with (copy / "item_vectors" / "part-00000.parquet").open("ab") as file:
        file.write(b"x")
    with running(build(ServerSettings(copy, reload_seconds=0))) as port:
        assert recommend(port, UNKNOWN)[0] == 500
        status, answer = request(port, "GET", "/readyz")
        assert status == 503
        assert "is not the one that was exported with it" in answer["error"]


def test_a_tower_that_cannot_be_read_is_told_to_whoever_asks(exported, monkeypatch):
    def fails(*arguments):
        raise UserError("the tower is of a newer torch")

    monkeypatch.setattr(load, "read_tower", fails)
    with running(build(ServerSettings(exported, reload_seconds=0))) as port:
        assert recommend(port, UNKNOWN)[0] == 500
        assert request(port, "GET", "/readyz") == (503, {"error": "the tower is of a newer torch"})
        assert recommend(port, KNOWN)[0] == 200


def test_parts_that_are_read_when_needed_are_verified_then(exported, tmp_path):
    bundle = tmp_path / "bundle"
    shutil.copytree(exported, bundle)
    damaged = bundle / "query_tower" / "000.npy"
    damaged.write_bytes(damaged.read_bytes() + b"x")
    recommender = serving.load(bundle, late="when_needed")
    assert recommender.recommend("3", 5) == serving.load(exported).recommend("3", 5)
    with pytest.raises(UserError, match=r"query_tower/000.npy .* is not the one"):
        recommender.late()
    whole = serving.load(exported, late="when_needed")
    assert whole.late() is whole.late()
