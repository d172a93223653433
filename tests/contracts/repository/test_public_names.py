"""The public names of the packages."""

import importlib

import pytest


@pytest.mark.parametrize("package", ["recsys", "serving"])
def test_dir_shows_the_public_names_and_imports_none(package: str) -> None:
    module = importlib.import_module(package)
    assert dir(module) == sorted(module.__all__)
    assert set(module._HOME) == set(module.__all__)
