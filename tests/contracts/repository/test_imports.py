"""The libraries that commands import, each of which takes as long as a short command may.

No clock is needed to see that: what was not imported was not waited for.
"""

from pathlib import Path

import pytest

from tests.support.imported import HEAVY, QUERYING, imported


def test_help_imports_no_engine():
    assert imported(("--help",), ("--version",)) == []
    # Typer reads a command's parameters with pydantic where that is installed.
    assert imported(("train", "--help"), ("query", "--help")) == ["pydantic"]


def test_an_explanation_of_a_key_and_a_mistyped_path_import_no_engine():
    stages = ("prepare", "train", "evaluate", "fuse", "tune", "study", "materialize", "export")
    found = imported(*((stage, "nothing.yaml") for stage in (*stages, "run", "doctor")), status=1)
    assert not set(found) & {*HEAVY, "faiss"} - {"pandas"}
    assert set(imported(("config",), ("config", "training.epochs"))) <= {
        "numpy",
        "pyarrow",
        "pydantic",
    }


@pytest.mark.parametrize("bundle", ["exported", "tiny_fused"])
def test_a_known_query_is_answered_without_the_engine_of_its_tower(bundle, request):
    directory = request.getfixturevalue(bundle)
    path: Path = directory if bundle == "exported" else directory.bundle_dir
    assert imported(("query", str(path), "--query-id", "3")) == list(QUERYING)
