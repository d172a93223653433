"""Bundles are replaced while requests are answered: none fails, and none sees halves of two."""

import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from feature_store.core.errors import UserError
from feature_store.core.files import directory_written_atomically
from serving.experiment.export import export_experiment
from serving.server.build import ServerSettings, build
from serving.server.deployment import Deployment, Source
from serving.server.metrics import ServerMetrics
from tests.serving.server.test_server import request
from tests.support.servers import running
from tests.support.tiny_bundle import export_untrained, write_prepared

TOKEN = {"Authorization": "Bearer secret"}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """Exports two models of the same data."""
    root = tmp_path_factory.mktemp("bundles")
    config = write_prepared(root / "run")
    with pytest.MonkeyPatch.context() as patch:
        for seed in (0, 1):
            export_untrained(config, patch, seed=seed)
            shutil.copytree(config.bundle_dir, root / str(seed))
    return root / "0", root / "1"


@pytest.fixture
def served(bundles, tmp_path):
    """Copies the first bundle, which tests replace."""
    shutil.copytree(bundles[0], tmp_path / "served")
    return tmp_path / "served"


def put(bundle, target):
    with directory_written_atomically(target, lambda _: True) as directory:
        shutil.copytree(bundle, directory, dirs_exist_ok=True)


def value(metrics, name):
    return next(
        float(line.split()[-1])
        for line in metrics.text().decode().splitlines()
        if line.startswith(name)
    )


def test_newer_bundles_are_served_and_the_old_ones_return(bundles, served):
    metrics = ServerMetrics()
    deployment = Deployment(Source(served), metrics)
    first = deployment.serving
    assert not deployment.reload()
    assert not deployment.rollback()
    put(bundles[1], served)
    assert deployment.reload()
    assert deployment.serving.seals != first.seals
    # A request that began before still has the old ones whole.
    assert first.recommenders["main"].recommend("3", 5).items
    assert deployment.rollback()
    assert deployment.serving is first
    assert not deployment.reload()
    assert value(metrics, 'recsys_swaps_total{result="done"}') == 1
    assert value(metrics, 'recsys_swaps_total{result="back"}') == 1


@pytest.mark.parametrize("harm", ["byte", "missing", "halves", "golden", "gone"])
def test_a_bad_bundle_is_refused_and_the_old_one_goes_on(bundles, served, harm):
    metrics = ServerMetrics()
    deployment = Deployment(Source(served), metrics)
    first, answer = deployment.serving, deployment.serving.recommenders["main"].recommend("3", 5)
    bad = served.parent / "bad"
    shutil.copytree(bundles[1], bad)
    if harm == "byte":
        content = bytearray((bad / "index.faiss").read_bytes())
        content[len(content) // 2] ^= 1
        (bad / "index.faiss").write_bytes(content)
    elif harm == "missing":
        (bad / "query_tower" / "000.npy").unlink()
    elif harm == "halves":
        shutil.copy(bundles[0] / "query_tower/000.npy", bad / "query_tower/000.npy")
    elif harm == "golden":
        reseal_with_wrong_golden(bad)
    if harm == "gone":
        shutil.rmtree(served)
    else:
        put(bad, served)
    with pytest.raises(UserError):
        deployment.reload()
    assert deployment.serving is first
    assert first.recommenders["main"].recommend("3", 5) == answer
    assert value(metrics, 'recsys_swaps_total{result="refused"}') == 1
    assert not deployment.reload()  # It is not read again and again.
    put(bundles[1], served)
    assert deployment.reload()


def reseal_with_wrong_golden(bundle):
    from serving.bundle.manifest import read_manifest, seal

    manifest = read_manifest(bundle)
    golden = json.loads((bundle / "golden.json").read_text())
    golden[0]["items"] = golden[0]["items"][::-1]
    golden[0]["scores"] = [score + 1 for score in golden[0]["scores"]]
    (bundle / "golden.json").write_text(json.dumps(golden))
    (bundle / "manifest.json").unlink()
    seal(bundle, manifest)


def test_under_load_no_request_fails_and_every_answer_is_of_one_bundle(bundles, served):
    app = build(ServerSettings(served, reload_seconds=0.05, token="secret"))
    answers, stop = [], threading.Event()

    def ask(port):
        while not stop.is_set():
            answers.append(request(port, "POST", "/recommend", {"query_id": "3", "k": 5}, TOKEN))

    with running(app) as port, ThreadPoolExecutor(4) as pool:
        workers = [pool.submit(ask, port) for _ in range(4)]
        try:
            for turn in range(6):
                put(bundles[(turn + 1) % 2], served)
                wait_for(port, bundles[(turn + 1) % 2])
        finally:
            stop.set()
        for worker in workers:
            worker.result()
    assert {status for status, _ in answers} == {200}
    seen = {}
    for _, answer in answers:
        items = tuple(item["item_id"] for item in answer["items"])
        assert seen.setdefault(answer["model"]["version"], items) == items
    assert len(seen) == 2


def wait_for(port, bundle):
    seal = json.loads((bundle / "manifest.json").read_text())["seal"]
    for _ in range(2000):
        variant = request(port, "GET", "/version", headers=TOKEN)[1]["variants"][0]
        if variant["seal"] == seal:
            return
    pytest.fail("the newer bundle is not served")


def test_changes_over_http_need_the_token(bundles, served):
    with running(build(ServerSettings(served, reload_seconds=0, token="secret"))) as port:
        for path in ("/recommend", "/reload", "/rollback", "/version", "/metrics"):
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "secret"}):
                status, answer = request(port, "POST", path, {"query_id": "3"}, headers)
                assert status == 401
                assert "bearer token" in answer["error"]
        assert request(port, "GET", "/healthz")[0] == 200
        put(bundles[1], served)
        status, answer = request(port, "POST", "/reload", headers=TOKEN)
        assert (status, answer["changed"]) == (200, True)
        newer = answer["seals"]
        status, answer = request(port, "POST", "/rollback", headers=TOKEN)
        assert (status, answer["changed"]) == (200, True)
        assert answer["seals"] != newer
        # A path in a request reaches nothing.
        status, _ = request(port, "POST", "/reload", {"bundle": "/etc/passwd"}, TOKEN)
        assert status == 200
    with running(build(ServerSettings(served, reload_seconds=0))) as port:
        assert request(port, "POST", "/reload")[0] == 404


def test_an_experiment_divides_the_queries_and_logs_them(bundles, tmp_path):
    from serving.experiment.report import ab_report

    experiment = export_experiment(*bundles, tmp_path / "experiment", split=0.4, salt="s")
    log = tmp_path / "log"
    with running(build(ServerSettings(tmp_path / "experiment", log=log))) as port:
        shown = {}
        for query in range(60):
            body = {"query_id": f"user {query}", "k": 3, "features": {"age": query}}
            status, answer = request(port, "POST", "/recommend", body)
            assert status == 200
            assert answer["variant"] == experiment.assign(f"user {query}")
            shown[answer["variant"]] = answer["model"]["version"]
            event = {"query_id": f"user {query}", "item_id": answer["items"][0]["item_id"]}
            body = {"events": [{**event, "request_id": answer["request_id"]}]}
            assert request(port, "POST", "/events", body)[1]["accepted"] == 1
        assert len(set(shown.values())) == 2
        status, answer = request(port, "POST", "/recommend", {"query_id": "3", "variant": "b"})
        assert answer["variant"] == "b"
        status, answer = request(port, "POST", "/recommend", {"query_id": "3", "variant": "c"})
        assert status == 422
        assert "variant 'c' is none of a, b" in answer["error"]
        body = {"query_ids": ["1", "2", "3", "4", "5", "1"], "k": 2}
        results = request(port, "POST", "/recommend/batch", body)[1]["results"]
        assert [r["variant"] for r in results] == [experiment.assign(q) for q in body["query_ids"]]
        assert results[0]["items"] == results[5]["items"]
        names = [v["name"] for v in request(port, "GET", "/version")[1]["variants"]]
        assert names == ["a", "b"]
    report = ab_report(log)
    # 60 users and 5 known queries, without the one that was shown both variants.
    assert sum(sample.queries for sample in report.samples) == 64


def test_two_bundles_are_an_experiment_without_a_directory(bundles):
    serving = Source(*bundles, split=0.25).open()
    assert list(serving.recommenders) == ["a", "b"]
    assert serving.share("b") == 0.25
    with pytest.raises(UserError, match=r"the split is 1\.5"):
        Source(*bundles, split=1.5).open()
