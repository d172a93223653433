"""Forgetting of ids wherever the configuration leads, and what that does not reach.

    list       forgotten.json, first: whatever comes later leaves them out
    log        files of this machine, without their rows
    stages     those that have run, once more; the new model becomes the champion
    leftovers  then all that earlier models left: days, studies, versions, artifacts, caches

Each step returns at once where it is done, so a call after a kill goes on; what serves is replaced
before it is removed.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from feature_store.core.locks import locked
from feature_store.core.settings import Frozen
from feature_store.core.temporary import temporary_sibling
from feature_store.forgotten import Forgotten
from pipelines.logs.tables import list_files
from pipelines.prepare.cleaning.forgotten_rows import FileRows, forgotten_rows
from pipelines.urls import shown
from recsys.checkpoint.training_manifest import readable_training
from recsys.config.config import Config
from recsys.stages.forget import foreign, forget, require_ids
from recsys.stages.refit import refit_config
from recsys.tracking import registered_name
from serving.bundle.manifest import BundleManifest
from serving.forgetting.log import rewrite, settle
from serving.forgetting.own import NAMES, removable
from serving.forgetting.remake import remake, stages_of
from serving.nightly.days import Days
from serving.registry.cache import cached_seals, forget_cached
from serving.registry.forgetting import (
    other_versions,
    remove_artifacts,
    remove_versions,
    runs_with_artifacts,
)
from serving.registry.registry import version_of_seal


class Everywhere(Frozen):
    """Result of `forget_everywhere`.

    Attributes:
        done: Lines on what was done or, in a dry run, would be.
        unreached: Places that may hold the ids still.
    """

    done: list[str]
    unreached: list[str]


def forget_everywhere(
    config: Config,
    *,
    query_ids: Sequence[str] = (),
    item_ids: Sequence[str] = (),
    dry_run: bool = False,
    console: Console | None = None,
) -> Everywhere:
    """Forgets ids in the log, in all that was made of it, and in the models that learnt from it.

    Args:
        config: Configuration of the system.
        query_ids: Ids of queries.
        item_ids: Ids of items.
        dry_run: Whether nothing is changed.
        console: Console to show progress on.

    Raises:
        UserError: There is no id; another process is at work; or a stage refuses, such as a gate
            that the new model does not pass: then the earlier models are still served.
    """
    console = console or Console()
    with locked(Path(config.output) / "job"):
        require_ids(query_ids, item_ids)
        listed = Forgotten.load(config.forgotten_path)
        if dry_run:
            listed = listed.adding("query", query_ids).adding("item", item_ids)
        else:
            forget(config, query_ids=query_ids, item_ids=item_ids)
            listed = Forgotten.load(config.forgotten_path)
        days, stages = Days(config), stages_of(config)
        found = list(forgotten_rows(config.data, list_files(config.data), listed))
        local = [each for each in found if each.is_local and each.rows]
        done = [_line(each) for each in local]
        if stages:
            done.append(f"run again without them: {', '.join(stages)}")
        bundle = None
        if not dry_run:
            settle(config, days)
            rewrite(config, days, local, listed)
            bundle = remake(config, stages, days, console)
        removed, problems = _leftovers(config, days, stages, bundle, dry_run=dry_run)
        places = [*_not_rewritten(found), *problems, *_elsewhere(config, days)]
        return Everywhere(done=done + removed, unreached=places)


def _line(found: FileRows) -> str:
    return f"{found.table}: {found.rows:,} of {found.total:,} rows of {shown(found.file)}"


def _leftovers(
    config: Config, days: Days, stages: list[str], bundle: BundleManifest | None, *, dry_run: bool
) -> tuple[list[str], list[str]]:
    """Removes what earlier models left, and returns lines on it, and problems."""
    seal = bundle.seal if bundle is not None else None
    adopted = days.of_seal(seal) if seal is not None else None
    kept = adopted[0] if adopted is not None else None
    paths = removable(config, stages)
    paths += [path for path in days.models() if path.parent != kept]
    versions = other_versions(config, seal) if "export" in stages else []
    is_new = "train" in stages and not dry_run
    runs = runs_with_artifacts(config, _runs_of(config) if is_new else ())
    seals = cached_seals() & {version.seal for version in versions}
    lines = [f"removed: {path}" for path in paths]
    name = registered_name(config)
    lines += [f"removed: version {version.version} of {name}" for version in versions]
    lines += [f"removed: artifacts of MLflow's run {run}" for run in runs]
    lines += [f"removed: the downloaded bundle {each}" for each in sorted(filter(None, seals))]
    if dry_run:
        return lines, []
    for path in paths:
        _remove(path)
    # A version is removed last, for it names the run and the bundle that it was.
    forget_cached(filter(None, seals))
    problems = remove_artifacts(config, runs, versions) if runs or versions else []
    if bundle is not None and versions:
        version = version_of_seal(config, bundle.seal)
        assert version is not None
        remove_versions(config, versions, version)
    return lines, problems


def _runs_of(config: Config) -> set[str]:
    """Returns the runs of the training and of its refit."""
    found = (readable_training(each.train_dir) for each in (config, refit_config(config)))
    return {trained.mlflow_run_id for trained in found if trained is not None}


def _remove(path: Path) -> None:
    """Removes a file or directory, so that a kill leaves nothing of it under its name."""
    if not path.is_dir() or path.is_symlink():
        path.unlink()
        return
    with locked(path):
        gone = temporary_sibling(path)
        path.rename(gone)
        shutil.rmtree(gone)


def _not_rewritten(found: Sequence[FileRows]) -> list[str]:
    remote = [each for each in found if each.rows and not each.is_local]
    return [
        *(
            f"{_line(each)}, which is not of this machine: write it again yourself"
            for each in remote
        ),
        *(each.problem for each in found if each.problem),
    ]


def _foreign(config: Config, days: Days) -> list[Path]:
    """Returns what is below the output and was not written by recsys, or cannot be told to be."""
    own = removable(config, ())
    named = (Path(config.output) / name for name in sorted(NAMES))
    return [
        *foreign(config, days.names() | NAMES),
        *(path for path in named if path.exists() and path not in own),
    ]


def _elsewhere(config: Config, days: Days) -> list[str]:
    """Returns sentences on what no configuration tells of."""
    return [
        *(f"{path}, which no command of recsys has written" for path in _foreign(config, days)),
        "values in other columns of the log, such as lists of friends, and other logs than data's",
        "backups and snapshots of all this, and blocks of removed files on disks that were not "
        "overwritten; Redis' own files until it writes them again",
        "runs in MLflow of other experiments, of other outputs, or from before this output was "
        "moved; other MLflow stores; deleted versions and runs until `mlflow gc`",
        "bundles that servers on other machines have downloaded, in ~/.cache/recsys; and a running "
        "server's previous bundle and events in memory, until it is started again",
        "logs of `serve --log`, and what `recommend`, `vectors`, `update` and `export --ab` wrote",
        "other outputs and configurations that read this log, each with a list of its own",
    ]
