"""A checkpoint of somebody else runs no code."""

import io
import pickle
from enum import Enum
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.metadata import _MEM_FORMAT_ENCODING, BytesStorageMetadata

from feature_store.core.errors import UserError
from recsys.checkpoint.metadata import require_plain_metadata
from recsys.checkpoint.state import load_weights
from tests.support.hostile.bundles import Marker

TENSORS = {
    "weight": torch.arange(6.0).reshape(2, 3),
    "half": torch.zeros(2, dtype=torch.bfloat16),
    "step": torch.tensor(3),
    "mask": torch.ones(2, dtype=torch.bool),
}


@pytest.fixture
def checkpoint(tmp_path):
    dcp.save(TENSORS, checkpoint_id=tmp_path / "checkpoint", no_dist=True)
    return tmp_path / "checkpoint"


def change_metadata(checkpoint: Path, change) -> None:
    path = checkpoint / ".metadata"
    metadata = pickle.loads(path.read_bytes())
    change(metadata)
    path.write_bytes(pickle.dumps(metadata))


def test_metadata_of_tensors_are_accepted(checkpoint):
    require_plain_metadata(checkpoint)
    change_metadata(checkpoint, lambda metadata: None)
    require_plain_metadata(checkpoint)


class ByName(pickle.Pickler):
    """Pickler of enumerations as Python 3.11.0 to 3.11.3 have it."""

    def reducer_override(self, value):
        return (getattr, (type(value), value.name)) if isinstance(value, Enum) else NotImplemented


def test_members_of_enumerations_are_accepted_by_name(checkpoint):
    path, file = checkpoint / ".metadata", io.BytesIO()
    ByName(file).dump(pickle.loads(path.read_bytes()))
    assert b"getattr" in file.getvalue()
    path.write_bytes(file.getvalue())
    require_plain_metadata(checkpoint)


class Attribute:
    """Value that is unpickled by `getattr` of something that is no member of an enumeration."""

    def __init__(self, *arguments):
        self.arguments = arguments

    def __reduce__(self):
        return getattr, self.arguments


@pytest.mark.parametrize(
    "arguments", [(torch.Size, "mro"), (_MEM_FORMAT_ENCODING, "__init__"), ("", "format")]
)
def test_other_attributes_are_refused(checkpoint, arguments):
    (checkpoint / ".metadata").write_bytes(pickle.dumps(Attribute(*arguments)))
    with pytest.raises(UserError, match=r"it names builtins\.getattr"):
        require_plain_metadata(checkpoint)


@pytest.mark.parametrize("place", ["all", "planner_data", "state_dict_metadata", "storage_data"])
def test_metadata_that_would_call_something_are_refused(checkpoint, tmp_path, place):
    marker = Marker(tmp_path / "marker")
    if place == "all":
        (checkpoint / ".metadata").write_bytes(pickle.dumps(marker))
    else:
        change_metadata(checkpoint, lambda metadata: setattr(metadata, place, {"weight": marker}))
    with pytest.raises(
        UserError, match=r"its metadata cannot be read \(it names (posix|os)\.mkdir"
    ):
        load_weights(checkpoint, torch.nn.Linear(3, 2))
    assert not marker.path.exists()


def test_entries_that_torch_would_unpickle_are_refused(checkpoint):
    def as_bytes(metadata):
        metadata.state_dict_metadata["weight"] = BytesStorageMetadata()

    change_metadata(checkpoint, as_bytes)
    with pytest.raises(UserError, match=r"it names .*\.BytesStorageMetadata"):
        load_weights(checkpoint, torch.nn.Linear(3, 2))


@pytest.mark.parametrize("content", [None, b"", b"abc", b"\x80\x04", b"\x80\x04N", b"\x80\x04N."])
def test_damaged_metadata_are_refused(checkpoint, content):
    path = checkpoint / ".metadata"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(UserError, match="its metadata cannot be read"):
        load_weights(checkpoint, torch.nn.Linear(3, 2))
