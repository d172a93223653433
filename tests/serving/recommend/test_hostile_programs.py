"""Programs of torch.export that run code when torch reads them: a bundle's readers never do."""

import io
import json
import re
import shutil
import zipfile
from contextlib import suppress

import pytest
import torch

import serving
from feature_store.core.errors import UserError
from tests.support.hostile.bundles import pickles, sealed

# Names of entries that torch unpickles, none of which is in a program that holds no pickles.
PICKLED = {
    "legacy weights": "data/weights/model.pt",
    "legacy constants": "data/constants/model.pt",
    "sample inputs": "data/sample_inputs/model.pt",
}
WAYS = [*PICKLED, "a weight that is pickled", "a symbolic expression"]


@pytest.fixture(scope="module")
def entries():
    """Returns the entries of a harmless program, and the folder that they are in."""
    rows = {"input": {0: torch.export.Dim.DYNAMIC}}
    program = torch.export.export(torch.nn.Linear(2, 2), (torch.ones(3, 2),), dynamic_shapes=rows)
    program.example_inputs = None
    stream = io.BytesIO()
    torch.export.save(program, stream)
    with zipfile.ZipFile(stream) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def hostile_program(entries, way, marker):
    """Returns the bytes of a program that makes a directory when torch reads it."""
    root = next(iter(entries)).split("/")[0]
    content, changed = pickles(marker)["torch.save"], dict(entries)
    if way in PICKLED:
        changed[f"{root}/{PICKLED[way]}"] = content
    elif way == "a weight that is pickled":
        name = next(name for name in entries if name.endswith("weights/model_weights_config.json"))
        config = json.loads(entries[name])
        payload = next(iter(config["config"].values()))
        payload["use_pickle"] = True
        changed[name] = json.dumps(config).encode()
        changed[f"{root}/data/weights/{payload['path_name']}"] = content
    else:
        name = f"{root}/models/model.json"
        text = entries[name].decode()
        symbol = re.search(r"\"expr_str\": \"(Symbol\([^)]*\))\"", text)[1]
        call = f"__import__('os').mkdir('{marker}') or {symbol}"
        changed[name] = text.replace(f'"expr_str": "{symbol}"', f'"expr_str": "{call}"').encode()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, value in changed.items():
            archive.writestr(name, value)
    return stream.getvalue()


@pytest.mark.parametrize("way", WAYS)
def test_no_way_into_torchs_reader_is_a_way_into_a_bundle(exported, entries, tmp_path, way):
    program = hostile_program(entries, way, tmp_path / "marker")
    with suppress(Exception):  # The object that it unpickles is no weight.
        torch.export.load(io.BytesIO(program))
    assert (tmp_path / "marker").exists(), "torch did not run it, so the test tests nothing"
    (tmp_path / "marker").rmdir()

    bundle = shutil.copytree(exported, tmp_path / "bundle")
    for name in ("query_tower.pt2", "item_tower.pt2", "query_tower/model.pt2"):
        (bundle / name).write_bytes(program)
    assert serving.load(sealed(bundle)).recommend("nobody").items
    for tower in ("query_tower", "item_tower"):
        shutil.rmtree(bundle / tower)
        (bundle / tower).write_bytes(program)
    with pytest.raises(UserError, match="query_tower holds no tensors"):
        serving.load(sealed(bundle))
    assert not (tmp_path / "marker").exists()
