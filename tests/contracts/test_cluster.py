"""The same application as replicas of Ray Serve."""

import pickle
import socket

import grpc
import pytest

from feature_store.core.errors import UserError
from serving.server.build import ServerSettings
from serving.server.launch import serve
from tests.serving.server.test_server import request
from tests.support.hostile.bundles import Marker
from tests.support.hostile.listeners import listeners
from tests.support.tiny_bundle import export_untrained, write_prepared


def test_several_replicas_need_a_store_that_they_share(tmp_path):
    with pytest.raises(UserError, match="several replicas need an online store"):
        serve(ServerSettings(tmp_path), replicas=2)


def ask_replicas(payload):
    """Sends a request of one field to the replicas, without a token, and returns the answers."""
    request = b"\x0a" + bytes([len(payload)]) + payload  # The first field in protobuf's encoding.
    answers = set()
    for port in {each.port for each in listeners() if "ServeReplica" in each.process}:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = channel.unary_unary("/ray.serve.ASGIService/HandleRequest")
            try:
                call(request, timeout=30)
            except grpc.RpcError as error:
                answers.add(error.code())
    return answers


@pytest.mark.slow
def test_a_replica_answers_as_the_server_does(tmp_path, monkeypatch, ray_session):
    import serving
    from serving.server.cluster import start, stop

    config = write_prepared(tmp_path)
    export_untrained(config, monkeypatch)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = ServerSettings(config.bundle_dir, log=tmp_path / "log", token="secret")
    start(settings, host="127.0.0.1", port=port, replicas=1)
    try:
        token = {"Authorization": "Bearer secret"}
        assert request(port, "POST", "/recommend", {"query_id": "3"})[0] == 401
        status, answer = request(port, "POST", "/recommend", {"query_id": "3", "k": 5}, token)
        assert status == 200
        expected = serving.load(config.bundle_dir).recommend("3", 5).items
        assert [i["item_id"] for i in answer["items"]] == [i.item_id for i in expected]
        seen = {"events": [{"query_id": "3", "item_id": expected[0].item_id}]}
        assert request(port, "POST", "/events", seen, token)[0] == 200
        _, answer = request(port, "POST", "/recommend", {"query_id": "3", "k": 5}, token)
        assert expected[0].item_id not in [i["item_id"] for i in answer["items"]]
        assert request(port, "GET", "/readyz") == (200, {"status": "ready"})
        # Ray's own servers of replicas, which unpickle what they get, want the session's token.
        marker = tmp_path / "unpickled"
        answers = ask_replicas(pickle.dumps(Marker(marker)))
        # Their core workers, which listen on loopback, do not know the request.
        assert answers == {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNIMPLEMENTED}
        assert not marker.exists()
    finally:
        stop()
