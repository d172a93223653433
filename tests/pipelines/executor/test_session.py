import os
import socket

import grpc
import psutil
import pytest
import ray

from feature_store.core.errors import UserError
from pipelines.executor.session import ensure_ray
from tests.support.hostile.listeners import assert_on_loopback, listeners


def address_of_this_machine():
    """Returns an address of this machine by which others reach it."""
    state = psutil.net_if_stats()
    for name, addresses in psutil.net_if_addrs().items():
        for each in addresses:
            is_other = each.family == socket.AF_INET and not each.address.startswith("127.")
            if is_other and state[name].isup:
                return each.address
    pytest.skip("this machine has no address but loopback")


@ray.remote
def process_of_a_worker():
    return os.getpid()


def test_all_of_ray_listens_on_loopback_alone(ray_session):
    assert ray.get(process_of_a_worker.remote()) != os.getpid()
    assert_on_loopback(listeners(), "gcs_server", "raylet", "ray::", "dashboard")


def test_the_address_of_the_machine_is_refused(ray_session):
    address = address_of_this_machine()
    assert ray.get(process_of_a_worker.remote()) != os.getpid()
    # Others may have the agent's fixed port there.
    ports = [each.port for each in listeners() if "DashboardAgent" not in each.process]
    assert int(ray.get_runtime_context().gcs_address.rpartition(":")[2]) in ports
    for port in ports:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((address, port), timeout=10)


def ask_gcs(**metadata):
    """Asks Ray's head for a key, and returns the status of the answer."""
    with grpc.insecure_channel(ray.get_runtime_context().gcs_address) as channel:
        ask = channel.unary_unary("/ray.rpc.InternalKVGcsService/InternalKVGet")
        try:
            ask(b"", timeout=30, metadata=tuple(metadata.items()))
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


def test_another_user_of_the_machine_needs_the_token(ray_session):
    assert ask_gcs() == grpc.StatusCode.UNAUTHENTICATED
    assert ask_gcs(authorization="Bearer " + 64 * "0") == grpc.StatusCode.UNAUTHENTICATED
    assert ask_gcs(authorization="Bearer " + os.environ["RAY_AUTH_TOKEN"]) == grpc.StatusCode.OK


@pytest.mark.parametrize("error", [ConnectionError, ray.exceptions.AuthenticationError])
def test_a_cluster_is_joined_with_its_token(monkeypatch, error):
    def init(**options):
        assert os.environ["RAY_AUTH_MODE"] == "token"
        raise error("no")

    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(UserError, match=r"10\.0\.0\.1:6379 cannot be joined.*RAY_AUTH_TOKEN_PATH"):
        ensure_ray()
