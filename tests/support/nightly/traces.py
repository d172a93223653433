"""Traces of a nightly job: files and store, without what differs from one process to another.

Ids of MLflow are random, and durations differ. `repeatably` makes ids those of names, and stops the
clocks whose durations are sealed, so that fingerprints and seals are equal, too; nor do commits
count.
"""

import hashlib
import json
import re
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from recsys.config.config import Config
from recsys.tracking import existing_store, tracking_uri

# Keys of JSON, and fields of MLflow, that hold durations and times of the clock.
_CLOCK = re.compile(r"seconds|_per_second|loader_wait")
# Files that hold random ids, or that nobody reads any more. The store is read by its client.
_SKIPPED = re.compile(
    r"mlflow\.db.*|mlartifacts(/.*)?|.*\.work(/.*)?|(.*/)?\.[^/]+\.lock|.*/\.metadata"
)


def repeatably() -> None:
    """Lets MLflow call the n-th run of a name by a hash of name and n; stops clocks."""
    from mlflow.store.tracking import sqlalchemy_store as module

    from recsys import tracking
    from serving.index import build
    from serving.nightly import day, job

    tracking.code_version = day.code_version = dict
    build.time = SimpleNamespace(thread_time_ns=lambda: 0)
    job.time = SimpleNamespace(monotonic=lambda: 0.0)
    create, drawn = module.SqlAlchemyStore.create_run, uuid.uuid4

    def create_run(store: Any, **named: Any) -> Any:
        name, experiment = named["run_name"], named["experiment_id"]
        same = store.search_runs([experiment], f"tags.`mlflow.runName` = '{name}'", 3)
        digest = hashlib.md5(f"{name} {len(same)}".encode()).hexdigest()
        module.uuid = SimpleNamespace(uuid4=lambda: uuid.UUID(digest))
        try:
            return create(store, **named)
        finally:
            module.uuid = SimpleNamespace(uuid4=drawn)

    module.SqlAlchemyStore.create_run = create_run


def left_by(config: Config) -> dict[str, str]:
    """Returns what a job left: contents, or their hashes, by name."""
    root = Path(config.output)
    found: dict[str, str] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if _SKIPPED.fullmatch(name):
            continue
        if path.is_symlink():
            found[name] = f"link to {path.readlink()}"
        elif path.is_file():
            found[name] = _content(path)
    return found | _store(config)


def _content(path: Path) -> str:
    data = path.read_bytes()
    if path.suffix == ".json":
        return json.dumps(_timeless(json.loads(data)), sort_keys=True)
    if path.suffix == ".jsonl":
        return "\n".join(json.dumps(_timeless(json.loads(line))) for line in data.splitlines())
    return hashlib.sha256(data).hexdigest()


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if not _CLOCK.search(k)}
    if isinstance(value, list):
        return [_timeless(each) for each in value]
    return value


def _store(config: Config) -> dict[str, str]:
    """Returns runs and versions of the MLflow store."""
    from mlflow.entities import ViewType

    found: dict[str, Any] = {}
    with existing_store(tracking_uri(config), "") as client:
        experiments = [each.experiment_id for each in client.search_experiments()]
        for run in client.search_runs(experiments, run_view_type=ViewType.ALL):
            key = f"run {run.info.run_name} ({run.info.run_id[:8]})"
            found[f"{key} status"] = run.info.status
            found[f"{key} params"] = run.data.params
            found[f"{key} tags"] = _timeless(run.data.tags)
            for metric in run.data.metrics:
                if not _CLOCK.search(metric):
                    history = client.get_metric_history(run.info.run_id, metric)
                    found[f"{key} {metric}"] = sorted((m.step, m.value) for m in history)
            found[f"{key} artifacts"] = _artifacts(client, run.info.run_id, "")
        for model in client.search_registered_models():
            found["aliases"] = model.aliases
            found["former"] = model.tags
            for version in client.search_model_versions(f"name = '{model.name}'"):
                key = f"version {version.version}"
                found[key] = [version.run_id, version.source, version.description, version.tags]
    return {name: json.dumps(value, sort_keys=True) for name, value in found.items()}


def _artifacts(client: Any, run_id: str, path: str) -> list[str]:
    names: list[str] = []
    for each in client.list_artifacts(run_id, path):
        names += _artifacts(client, run_id, each.path) if each.is_dir else [each.path]
    return sorted(names)
