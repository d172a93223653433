import os

import torch

from recsys.distributed.ray_group import open_store
from recsys.training.launch import single_process_group
from tests.support.hostile.listeners import assert_on_loopback, listeners


def test_a_store_and_a_group_listen_at_one_address():
    store = open_store("127.0.0.1")
    store.set("key", "value")
    with single_process_group(torch.device("cpu")):
        assert {"GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"} <= set(os.environ)
        listening = listeners()
    assert store.port in {each.port for each in listening}
    assert_on_loopback(listening)
