"""Checkpoints: all that a training needs to resume, written while it runs, the manifest last.

    checkpoints/
        step-0000000120/    .metadata, __<rank>_0.distcp, manifest.json
        step-0000000240/
        .step-0000000360.<random>.tmp/    in flight, or left by a killed process

The state is copied to CPU memory, which training waits for, and written by a thread. The ranks'
threads meet in collectives of their own: when the last one has written, rank 0 adds the manifest
and renames the directory. So no finished checkpoint lacks the part of a rank.

No random state is saved, for nothing depends on one: the order of examples and every random choice
(masks, dropouts, sampled items) are hashes of the seed, the step and the position in the batch. The
position in the data is the step, in the order that `plan` identifies.
"""

import errno
import os
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata

from feature_store.core.errors import UserError
from feature_store.core.files import sync_tree
from feature_store.core.manifests import write_manifest
from feature_store.core.temporary import temporary_sibling
from recsys.checkpoint.manifest import (
    CHECKPOINT_PREFIX,
    CheckpointManifest,
    Progress,
    checkpoint_path,
    remove_old_checkpoints,
)
from recsys.checkpoint.table_rows import TableRows
from recsys.config.config import Config
from recsys.distributed.shards import ShardedTensor, with_tensors

_NICENESS = 10
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class CheckpointWriter:
    """Writes checkpoints in a thread, one at a time; every rank has one, and all make equal calls.

    Args:
        directory: Directory of the checkpoints, which all ranks see.
        config: Configuration of the training.
        schema_fingerprint: Fingerprint of the features.
        tables: Rows of each table.
    """

    def __init__(
        self,
        directory: Path,
        config: Config,
        schema_fingerprint: str,
        tables: dict[str, TableRows],
    ) -> None:
        self._directory = directory
        self._config = config
        self._schema_fingerprint = schema_fingerprint
        self._tables = tables
        self._group = dist.new_group(backend="gloo")  # The training's is busy with its own.
        self._copies: dict[str, Any] = {}
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        if dist.get_rank() == 0:
            for leftover in directory.glob(f".{CHECKPOINT_PREFIX}*"):
                shutil.rmtree(leftover, ignore_errors=True)

    def save(self, state: dict[str, Any], progress: Progress) -> None:
        """Begins to write `step-<n>`, once the checkpoint before it is written.

        Args:
            state: State by `checkpoint_state`, which may change as soon as this returns.
            progress: Progress that belongs to the state.

        Raises:
            UserError: The checkpoint before it could not be written.
        """
        self.wait()
        self._copies = copied(state, self._copies)
        self._thread = threading.Thread(
            target=self._run, args=(progress,), name="checkpoint", daemon=True
        )
        self._thread.start()

    @property
    def is_busy(self) -> bool:
        """Whether a checkpoint is in flight."""
        return self._thread is not None and self._thread.is_alive()

    def check(self) -> None:
        """Raises the error of the checkpoint in flight, if it has failed."""
        if self._error is not None:
            raise self._error

    def wait(self) -> None:
        """Waits until no checkpoint is in flight; raises as `check` does."""
        if self._thread is not None:
            self._thread.join()
        self.check()

    def close(self) -> None:
        """Waits for the checkpoint in flight; raises nothing, for another error is on its way."""
        if self._thread is not None:
            self._thread.join()

    def _run(self, progress: Progress) -> None:
        if sys.platform == "linux":  # Where a thread has a priority of its own: training first.
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        try:
            self._write(progress)
        except BaseException as error:
            self._error = self._explained(error, progress.step)

    def _write(self, progress: Progress) -> None:
        path = checkpoint_path(self._directory, progress.step)
        name: list[Any] = [temporary_sibling(path).name]
        dist.broadcast_object_list(name, group=self._group)
        temporary = path.with_name(name[0])
        try:
            metadata = dcp.save(self._copies, checkpoint_id=temporary, process_group=self._group)
            if dist.get_rank() == 0:
                self._seal(temporary, path, metadata, progress)
        except BaseException:
            if dist.get_rank() == 0:
                shutil.rmtree(temporary, ignore_errors=True)
            raise

    def _seal(self, temporary: Path, path: Path, metadata: Metadata, progress: Progress) -> None:
        """Writes the manifest and renames the directory, on rank 0, when every rank has written."""
        manifest = CheckpointManifest(
            progress=progress,
            world_size=dist.get_world_size(),
            schema_fingerprint=self._schema_fingerprint,
            config=self._config,
            tables=self._tables,
            shapes={
                name: tuple(entry.size)
                for name, entry in metadata.state_dict_metadata.items()
                if isinstance(entry, TensorStorageMetadata)
            },
            files={file.name: file.stat().st_size for file in temporary.iterdir()},
        )
        write_manifest(temporary, manifest)
        shutil.rmtree(path, ignore_errors=True)
        temporary.rename(path)
        sync_tree(path.parent)
        remove_old_checkpoints(self._directory, self._config.training.keep_checkpoints)

    def _explained(self, error: BaseException, step: int) -> BaseException:
        causes = [error]
        if isinstance(error, CheckpointException):
            causes = [wrapped[0] for wrapped in error.failures.values()]
        for cause in causes:
            if isinstance(cause, OSError) and cause.errno in _DISK_FULL:
                return UserError(
                    f"the disk is full: the checkpoint of step {step} could not be written to "
                    f"{self._directory} ({cause.strerror}); the ones before it are whole: free "
                    "some space, or lower training.keep_checkpoints, and run `recsys train` again."
                )
        return error


def copied(state: dict[str, Any], earlier: dict[str, Any]) -> dict[str, Any]:
    """Copies a state to CPU memory, which is pinned for tensors of a GPU.

    Args:
        state: Tensors by name, sharded or not.
        earlier: Earlier copies to overwrite, as fresh memory costs more than the copy; may be
            empty.
    """
    copies: dict[str, Any] = {}
    for name, value in state.items():
        old = earlier.get(name)
        if isinstance(value, ShardedTensor):
            olds = old.local_shards() if old is not None else [None] * len(value.local_shards())
            tensors = [
                _copy(shard.tensor, None if old is None else old.tensor)
                for shard, old in zip(value.local_shards(), olds, strict=True)
            ]
            copies[name] = with_tensors(value, tensors)
        else:
            copies[name] = _copy(value, old)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return copies


@torch.no_grad()
def _copy(tensor: Tensor, old: Tensor | None) -> Tensor:
    if old is None:
        old = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
    return old.copy_(tensor, non_blocking=True)
