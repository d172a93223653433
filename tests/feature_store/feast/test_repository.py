"""Feast's import, which is not to change the metrics of this process."""

import os
import sys
from pathlib import Path

import pytest

from feature_store.feast.repository import definitions

NAMES = ("PROMETHEUS_MULTIPROCESS_DIR", "PROMETHEUS_MULTIPROC_DIR")


@pytest.mark.parametrize("given", [None, "/of/the/user"])
def test_metrics_stay_those_of_one_process_unless_the_user_shares_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str | None
) -> None:
    lines = ["import os", *(f"os.environ.setdefault({name!r}, '/tmp/x')" for name in NAMES)]
    (tmp_path / "feast.py").write_text(
        "\n".join([*lines, "class Entity: ...", "class ValueType: ..."])
    )
    for name in NAMES:
        if given is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, given)
    monkeypatch.syspath_prepend(tmp_path)
    real = sys.modules.pop("feast", None)
    try:
        with pytest.raises(AttributeError, match="STRING"):  # It is not the real one.
            definitions(tmp_path)
    finally:
        del sys.modules["feast"]
        if real is not None:
            sys.modules["feast"] = real
    assert [os.environ.get(name) for name in NAMES] == [given, given]
