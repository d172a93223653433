"""Arrays of a batch become tensors of the same names, and building them needs no torch."""

import subprocess
import sys
from dataclasses import fields

import numpy as np
import torch

from recsys.data.batch import Batch
from recsys.data.builder import BatchBuilder
from recsys.data.host_batch import HostBatch
from tests.support.small_batches import config, local_batch, prepared


def test_every_array_has_its_tensor():
    jagged = {"values", "weights", "lengths"}
    arrays = {field.name for field in fields(HostBatch)} - jagged
    assert arrays == {field.name for field in fields(Batch)} - {"sparse"}


def test_a_batch_is_padded_to_the_history_rows_that_ranks_agree_on():
    builder = BatchBuilder(prepared(), config())
    host = builder.training(local_batch(3), 0, 1)
    keys, padding = builder.keys(), 5
    batch = Batch.from_host(host, keys, host.history_rows + padding)
    rows = host.num_rows + padding
    assert batch.sparse.keys() == keys
    assert batch.sparse.stride() == rows
    lengths = batch.sparse.lengths().view(len(keys), rows).numpy()
    assert np.array_equal(lengths[:, : host.num_rows], host.lengths)
    assert not lengths[:, host.num_rows :].any()
    assert np.array_equal(batch.sparse.values().numpy(), host.values)
    for name in ("item_dense", "item_dense_present"):
        tensor = getattr(batch, name).numpy()
        assert np.array_equal(tensor[: host.num_rows], getattr(host, name))
        assert not tensor[host.num_rows :].any()
    others = {field.name for field in fields(Batch)} - {
        "sparse",
        "item_dense",
        "item_dense_present",
    }
    for name in others:
        assert torch.equal(getattr(batch, name), torch.from_numpy(np.array(getattr(host, name))))


def test_tasks_that_build_batches_import_no_torch():
    code = "import sys, recsys.data.loader; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
