"""The process group of the workers of Ray Train.

Ray's own keeps the ranks' addresses in a store that listens on every interface, so that anybody who
reaches the machine can write others into it. This store listens where Ray's node does: on loopback,
or on a cluster at the node's address.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import ray.util
import torch.distributed as dist
from ray.train import get_context
from ray.train.backend import Backend
from ray.train.collective import broadcast_from_rank_zero
from ray.train.torch import TorchConfig

# Time of a collective call, in which ranks wait for one that loads data or writes a checkpoint.
_TIMEOUT = timedelta(minutes=30)


class _SharedGpus(Backend):
    """A backend that opens no process group; each worker sees all GPUs of its machine."""

    share_cuda_visible_devices = True


class GroupConfig(TorchConfig):
    """Configuration of workers that open their process group by `ray_process_group`."""

    @property
    def backend_cls(self) -> type[Backend]:
        """The backend in Ray's place."""
        return _SharedGpus


@contextmanager
def ray_process_group(backend: str) -> Iterator[None]:
    """Opens the process group of all workers; a collective call of theirs.

    After an error the group is left to the end of the process, because other ranks may be waiting.

    Args:
        backend: `gloo` or `nccl`.
    """
    context = get_context()
    rank, ranks = context.get_world_rank(), context.get_world_size()
    # TorchRec plans by these, as torchrun sets them.
    of_rank = {
        "RANK": rank,
        "WORLD_SIZE": ranks,
        "LOCAL_RANK": context.get_local_rank(),
        "LOCAL_WORLD_SIZE": context.get_local_world_size(),
    }
    os.environ.update({name: str(value) for name, value in of_rank.items()})
    own = open_store(ray.util.get_node_ip_address()) if rank == 0 else None
    host, port = broadcast_from_rank_zero(None if own is None else (own.host, own.port))
    store = own or dist.TCPStore(host, port, is_master=False, timeout=_TIMEOUT)
    dist.init_process_group(backend, store=store, rank=rank, world_size=ranks, timeout=_TIMEOUT)
    yield
    dist.destroy_process_group()


def open_store(host: str) -> dist.TCPStore:
    """Opens a store that listens at one address of this machine, at a free port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.create_server((host, 0), family=family)
    port = listening.getsockname()[1]
    return dist.TCPStore(
        host,
        port,
        is_master=True,
        timeout=_TIMEOUT,
        wait_for_workers=False,
        master_listen_fd=listening.detach(),
    )
