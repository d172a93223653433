"""Removal of earlier models from MLflow: registered versions, and artifacts of runs."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recsys.config.config import Config
from recsys.mlflow_run import all_pages
from recsys.tracking import changing_store, existing_store, is_missing, registered_name
from recsys.tracking import tracking_uri as store_of
from serving.registry.registry import (
    CHALLENGER,
    CHAMPION,
    artifact_of,
    forget_former,
)

_OUTPUT_TAG = "recsys.output"
_AT_ONCE = 1000


@dataclass(frozen=True)
class Version:
    """A registered version.

    Attributes:
        version: Version.
        seal: Seal of the bundle; None: it is no bundle.
        run_id: Run that has the artifacts.
    """

    version: str
    seal: str | None
    run_id: str


def other_versions(config: Config, kept: str | None) -> list[Version]:
    """Returns the registered versions but for that of one seal.

    Args:
        config: Configuration with the registered model and the store.
        kept: Seal of the bundle that stays; None: there is none.
    """
    uri, name = store_of(config), registered_name(config)
    if is_missing(uri):
        return []
    with existing_store(uri, f"cannot read the versions of {name}") as client:

        def search(token: str | None) -> Any:
            return client.search_model_versions(
                f"name='{name}'", max_results=_AT_ONCE, page_token=token
            )

        found = [
            Version(str(each.version), each.tags.get("recsys.seal"), each.run_id)
            for each in all_pages(search)
        ]
    return [version for version in found if kept is None or version.seal != kept]


def remove_versions(config: Config, versions: Collection[Version], champion: str) -> None:
    """Removes versions, of which none is served any more.

    Args:
        config: Configuration with the registered model and the store.
        versions: Versions to remove.
        champion: Version that stays, and is the champion and the challenger.
    """
    uri, name = store_of(config), registered_name(config)
    with changing_store(uri, f"cannot remove versions of {name}") as client:
        for alias in (CHAMPION, CHALLENGER):
            client.set_registered_model_alias(name, alias, champion)
        forget_former(client, name)
        for version in versions:
            client.delete_model_version(name, version.version)


def runs_with_artifacts(config: Config, kept: Collection[str]) -> list[str]:
    """Returns the runs of this output, in its experiment, that have artifacts.

    Args:
        config: Configuration with the experiment and the store.
        kept: Runs that stay as they are.
    """
    uri = store_of(config)
    if is_missing(uri):
        return []
    with existing_store(uri, "cannot read the runs") as client:
        from mlflow.entities import ViewType

        experiment = client.get_experiment_by_name(config.tracking.experiment)
        if experiment is None:
            return []

        def search(token: str | None) -> Any:
            return client.search_runs(
                [experiment.experiment_id],
                run_view_type=ViewType.ALL,
                max_results=_AT_ONCE,
                page_token=token,
            )

        return [
            run.info.run_id
            for run in all_pages(search)
            if run.info.run_id not in kept
            and _is_below(run.data.tags.get(_OUTPUT_TAG), config.output)
            and client.list_artifacts(run.info.run_id)
        ]


def remove_artifacts(
    config: Config, runs: Collection[str], versions: Collection[Version]
) -> list[str]:
    """Removes the artifacts of runs, whose parameters and metrics stay, and of versions.

    Returns:
        Sentences on those that could not be removed.
    """
    problems = []
    with existing_store(store_of(config), "cannot remove artifacts") as client:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        paths = [(run, entry.path) for run in runs for entry in client.list_artifacts(run)]
        for version in versions:  # They may be of other outputs' runs, which stay.
            if version.seal is not None and version.run_id not in runs:
                artifact = version.run_id, artifact_of(version.seal)
                paths += [artifact] if client.list_artifacts(*artifact) else []
        for run, path in paths:
            place = client.get_run(run).info.artifact_uri
            try:
                repository = get_artifact_repository(place, tracking_uri=store_of(config))
                repository.delete_artifacts(path)
            except Exception as error:  # Any store may hold them, and answer anything.
                reason = str(error).partition("\n")[0]
                problems.append(f"MLflow's {place}/{path}, which was not removed: {reason}")
    return problems


def _is_below(tag: str | None, output: str) -> bool:
    return tag is not None and Path(tag).is_relative_to(output)
