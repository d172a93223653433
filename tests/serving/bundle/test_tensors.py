"""Tensors are read as numbers, or not at all."""

import json

import numpy as np
import pytest
import torch

from feature_store.core.errors import UserError
from serving.bundle.tensors import read_tensors, write_tensors
from tests.support.hostile.bundles import pickles

TENSORS = {
    "a.b/c%2E": torch.arange(6.0).reshape(2, 3),
    "scalar": torch.tensor(0.5),
    "nothing": torch.empty(0),
    "part": torch.arange(12.0).reshape(3, 4).T[:, 1:],
}
WAYS = ("pickle", "object array", "archive of arrays", "torch.save", "torch.save of old")


@pytest.fixture
def directory(tmp_path):
    write_tensors(tmp_path / "tower", TENSORS)
    return tmp_path / "tower"


def test_tensors_are_read_as_they_were_written(directory):
    found = read_tensors(directory)
    assert list(found) == list(TENSORS)
    for name, tensor in TENSORS.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0)


@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_unpickled(directory, tmp_path, way):
    files = pickles(tmp_path / "marker")
    assert tuple(files) == WAYS
    (directory / "000.npy").write_bytes(files[way])
    with pytest.raises(UserError, match="holds no tensors"):
        read_tensors(directory)
    assert not (tmp_path / "marker").exists()


HEADERS = {
    "larger than the file": "{'descr': '<f4', 'fortran_order': False, 'shape': (1 << 60,)}",
    "too large": "{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776, 3)}",
    "negative": "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}",
    "of other numbers": "{'descr': '<f8', 'fortran_order': False, 'shape': (2,)}",
    "of other bytes": "{'descr': '>f4', 'fortran_order': False, 'shape': (2,)}",
    "of objects": "{'descr': '|O', 'fortran_order': False, 'shape': (2,)}",
    "code": "{'descr': '<f4', 'fortran_order': False, 'shape': (__import__('os').abort(),)}",
    "no header": "[]",
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_is_not_believed(directory, name):
    header = HEADERS[name].ljust(117) + "\n"
    content = np.lib.format.magic(1, 0) + len(header).to_bytes(2, "little") + header.encode()
    (directory / "000.npy").write_bytes(content + bytes(64))
    with pytest.raises(UserError, match="holds no tensors"):
        read_tensors(directory)


@pytest.mark.parametrize("names", [None, {}, [1, 2, 3, 4], ["a"] * 5, "abc"])
def test_other_names_than_files_are_refused(directory, names):
    path = directory / "tensors.json"
    path.unlink() if names is None else path.write_text(json.dumps(names))
    with pytest.raises(UserError, match="holds no tensors"):
        read_tensors(directory)
