"""The champion that a new model is compared with before it is exported."""

import io
from types import SimpleNamespace

from rich.console import Console

from serving.exporting import champion
from serving.exporting.champion import against_champion
from tests.support.planted import groceries_config


def test_a_champion_of_another_task_is_no_measure(tmp_path, monkeypatch):
    figures = {"recall@50": 0.5, "recall@50_high": 0.6, "count": 100}
    before = SimpleNamespace(
        training_fingerprint="old", mlflow_run_id="run", repeats="exclude", slices={"tail": figures}
    )
    monkeypatch.setattr(champion, "champion_manifest", lambda _: before)
    trained, worse = SimpleNamespace(fingerprint="new"), {"tail": {**figures, "recall@50": 0.49}}
    said = io.StringIO()
    console = Console(file=said, width=300)
    for repeats in ("exclude", "allow"):
        config = groceries_config(tmp_path / "events.parquet", tmp_path, repeats)
        run, changes = against_champion(config, trained, worse, console)
        assert (run, list(changes)) == (("run", ["tail"]) if repeats == "exclude" else (None, []))
        words = "it was evaluated with data.repeats: exclude, so its figures are of another task"
        assert (words in said.getvalue()) == (repeats == "allow")
