"""Towers are made of this package's layers, and only of weights that are exactly theirs."""

import json
import shutil

import pytest
import torch

from feature_store.core.errors import UserError
from feature_store.schema import FeatureSchema
from recsys.model.tower import Tower
from serving.bundle.tensors import read_tensors, write_tensors
from serving.bundle.tower_files import read_item_tower, read_query_tower


@pytest.fixture
def bundle(exported, tmp_path):
    return shutil.copytree(exported, tmp_path / "bundle")


def read_both(bundle):
    schema = FeatureSchema.model_validate_json((bundle / "schema.json").read_text())
    read_item_tower(bundle, schema)
    return read_query_tower(bundle, schema)


def without_a_tensor(tensors):
    tensors.popitem()


def with_another_tensor(tensors):
    tensors["lookup.extra"] = torch.zeros(3)


def with_another_shape(tensors):
    name = next(name for name in tensors if name.endswith("output.weight"))
    tensors[name] = tensors[name].T.contiguous()


def with_a_table_of_a_scalar(tensors):
    name = next(name for name in tensors if ".tables." in name)
    tensors[name] = torch.tensor(1.0)


def with_another_name(tensors):
    name = next(name for name in tensors if ".tables." in name)
    tensors["__class__"] = tensors.pop(name)


CHANGES = [
    without_a_tensor,
    with_another_tensor,
    with_another_shape,
    with_a_table_of_a_scalar,
    with_another_name,
]


@pytest.mark.parametrize("tower", ["item_tower", "query_tower"])
@pytest.mark.parametrize("change", CHANGES)
def test_other_weights_than_the_layers_have_are_refused(bundle, tower, change):
    tensors = {name: tensor.clone() for name, tensor in read_tensors(bundle / tower).items()}
    change(tensors)
    write_tensors(bundle / tower, tensors)
    with pytest.raises(UserError, match=f"{tower} does not hold the weights of the layers"):
        read_both(bundle)


SETTINGS = {
    "unknown key": {"code": "import os"},
    "another kind": {"history": [{"kind": "os.system"}]},
    "another width": {"query_tower": [33], "item_tower": [33]},
    "widths without memory": {"query_tower": [2**40, 2**40], "item_tower": [2**40, 2**40]},
    "negative width": {"query_tower": [-1], "item_tower": [-1]},
    "text": {"item_tower": ["exec"], "query_tower": ["exec"]},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_other_settings_than_the_weights_have_are_refused(bundle, name):
    path = bundle / "towers.json"
    document = json.loads(path.read_text())
    document["model"].update(SETTINGS[name])
    path.write_text(json.dumps(document))
    with pytest.raises(UserError, match="does not hold the weights of the layers"):
        read_both(bundle)


def test_reading_changes_no_random_stream(bundle):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    read_both(bundle)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("tower", ["item_tower", "query_tower"])
def test_layers_that_compute_something_else_are_refused(bundle, monkeypatch, tower):
    forward = Tower.forward

    def of_another_version(self, inputs):
        return forward(self, inputs).roll(1, dims=1)

    monkeypatch.setattr(Tower, "forward", of_another_version)
    with pytest.raises(UserError, match="a version of recsys whose layers compute something else"):
        read_both(bundle)


@pytest.mark.parametrize("tower", ["item_tower", "query_tower"])
def test_a_missing_probe_is_refused(bundle, tower):
    (bundle / tower / "probe.npy").unlink()
    with pytest.raises(UserError, match=f"{tower} does not hold the weights of the layers"):
        read_both(bundle)
