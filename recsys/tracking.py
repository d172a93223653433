"""The MLflow store: one run for each training, to which evaluation and export add."""

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from feature_store.core.errors import UserError
from feature_store.core.locks import locked, waiting
from pipelines.process import quiet_engines
from recsys.config.config import Config
from recsys.disk_faults import disk_fault
from recsys.mlflow_run import Run
from recsys.moved_store import artifacts_of, find_artifacts
from recsys.sqlite_store import is_blank, make_ready
from recsys.tracked import EXPERIMENT_TAGS

# Limits of MLflow on one request.
_PARAMS_AT_ONCE, _PARAM_LENGTH = 100, 6000
_IDENTITY_TAG = "recsys.identity"
# Stage of experiments and runs that were not deleted.
_ACTIVE = "active"
_SQLITE_FILE = re.compile(r"sqlite(?:\+\w+)?:///(?!:memory:|file:)(?P<file>[^?]+)(?:\?.*)?", re.S)


def tracking_uri(config: Config) -> str:
    """Returns the store of the configuration, of the environment, or SQLite beside the output.

    Raises:
        UserError: The path of the output cannot be part of a URI.
    """
    uri = config.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        output = Path(config.output).resolve()
        if "?" in str(output):
            raise UserError(
                f"{output} has a question mark, which the URI of a SQLite store cannot hold; "
                "choose another output, or set tracking.uri."
            )
        uri = f"sqlite:///{output}/mlflow.db"
    path = sqlite_path(uri)
    if path is not None and not path.is_absolute():  # Workers have other working directories.
        return uri.replace(str(path), str(path.absolute()), 1)
    return uri


def registered_name(config: Config) -> str:
    """Returns the name of the registered model of a configuration's bundles."""
    return config.export.registered_model or config.tracking.experiment


def unless_absent(ask: Callable[..., Any], *what: str) -> Any:
    """Returns MLflow's answer, or None where it has no such thing.

    Args:
        ask: Function of a client.
        what: Arguments of it, such as a name.
    """
    from mlflow.exceptions import MlflowException

    try:
        return ask(*what)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def experiment_page(config: Config) -> str:
    """Returns the address of the experiment in MLflow's view for training models.

    MLflow opens its pages in the view for generative models, unless the address names the other
    or the browser remembers it.

    Returns:
        Address below that of MLflow's server.
    """
    with existing_store(tracking_uri(config), "cannot find the experiment") as client:
        experiment = client.get_experiment_by_name(config.tracking.experiment)
    found = f"/{experiment.experiment_id}" if experiment is not None else ""
    return f"#/experiments{found}?workflowType=machine_learning"


def store_uri(given: str | None) -> str:
    """Returns the store of an option, of the environment, or of the one output that is here.

    Raises:
        UserError: None is named, and the working directory has none, or several.
    """
    named = given or os.environ.get("MLFLOW_TRACKING_URI")
    if named:
        return named
    stores = sorted(
        {*Path().glob("mlflow.db"), *Path().glob("*/mlflow.db"), *Path().glob("*/*/mlflow.db")}
    )
    if len(stores) == 1:
        return f"sqlite:///{stores[0].resolve()}"
    problem = "there is none below this directory"
    if stores:
        problem = (
            f"there are {len(stores)} below this directory, such as {stores[0]} and {stores[1]}"
        )
    raise UserError(
        f"which MLflow store? {problem}; name it with --tracking-uri sqlite:////path/to/mlflow.db "
        "or MLFLOW_TRACKING_URI."
    )


def is_missing(uri: str) -> bool:
    """Returns whether a store is a SQLite file that MLflow would have to create, or to fill.

    Raises:
        UserError: It is a file that is no database, or another program is using it.
    """
    path = sqlite_path(uri)
    return path is not None and is_blank(path)


@contextmanager
def existing_store(given: str | None, problem: str) -> Iterator[Any]:
    """Yields the client of a store that is there, for commands that must not create one.

    Args:
        given: URI of the store; None: see `store_uri`.
        problem: Beginning of the sentence that exceptions of MLflow within the block become.

    Raises:
        UserError: There is no such store, it does not answer or refuses, or MLflow is not
            installed.
    """
    uri = store_uri(given)
    if is_missing(uri):
        raise UserError(
            f"{problem}: there is no MLflow store {uri}; train first, or name another with "
            "--tracking-uri or MLFLOW_TRACKING_URI."
        )
    try:
        from mlflow.exceptions import MlflowException
    except ImportError as error:
        raise UserError(f"{problem}: MLflow is not installed; install mlflow.") from error
    try:
        yield mlflow_client(uri)
    except UserError:
        raise
    except (MlflowException, OSError, ValueError) as error:  # A URI may be none.
        raise _refusal(problem, error, uri) from error


@contextmanager
def _answering(problem: str, uri: str) -> Iterator[None]:
    """Turns exceptions of MLflow into sentences, but for those of a disk, which have their own."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if disk_fault(error) is not None:
            raise
        raise _refusal(problem, error, uri) from error


def _refusal(problem: str, error: Exception, uri: str) -> UserError:
    code = getattr(error, "error_code", "")  # A server's errors begin with it.
    reason = str(error).partition("\n")[0].removeprefix(f"{code}: ").rstrip(".")
    return UserError(f"{problem}: {reason}; look at the store {uri}.")


@contextmanager
def changing_store(given: str | None, problem: str) -> Iterator[Any]:
    """Yields the client as `existing_store` does, to one process at a time.

    It is for changes that read first, such as of a champion. Stores that are no SQLite files are
    not locked: there the last of two changes at the same time counts.

    Args:
        given: URI of the store; None: see `store_uri`.
        problem: Beginning of the sentence that exceptions of MLflow within the block become.

    Raises:
        UserError: As in `existing_store`.
    """
    with existing_store(given, problem) as client, ExitStack() as stack:
        path = sqlite_path(store_uri(given))
        if path is not None:
            stack.enter_context(waiting())  # Changes are short.
            stack.enter_context(locked(path))
        yield client


@lru_cache(maxsize=4)
def mlflow_client(uri: str) -> Any:
    """Opens the store of runs and of registered models, which takes far longer than a query.

    Raises:
        UserError: It is a SQLite file that is not, and cannot become, a store of this MLflow.
        MlflowException: The store cannot be opened.
    """
    from mlflow import MlflowClient

    quiet_engines()
    path = sqlite_path(uri)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        make_ready(path)
        find_artifacts(path)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def start_run(
    config: Config,
    name: str,
    *,
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
    identity: str | None = None,
) -> Run:
    """Starts a run with the configuration as its parameters, or others, and further tags.

    Args:
        config: Configuration with the store and the experiment.
        name: Name of the run.
        params: Parameters; None: the configuration's.
        tags: Further tags.
        identity: Identity of the work: a run of it that a killed process began is continued; None:
            there is none.

    Raises:
        UserError: The store does not answer or refuses, or its experiment was deleted.
    """
    uri = tracking_uri(config)
    with _answering(f"cannot start a run of {config.tracking.experiment!r}", uri):
        return _start_run(mlflow_client(uri), config, name, params, tags or {}, identity)


def _start_run(
    client: Any,
    config: Config,
    name: str,
    params: Mapping[str, Any] | None,
    tags: Mapping[str, str],
    identity: str | None,
) -> Run:
    experiment = _experiment(client, config)
    if params is None:
        params = dict(_flat(config.model_dump(mode="json"), ""))
    params = {_valid_name(name): str(value)[:_PARAM_LENGTH] for name, value in params.items()}
    begun = _begun(client, experiment, config, identity) if identity is not None else None
    if begun is not None:
        _log_params(client, begun.info.run_id, params, begun.data.params)
        return Run(client, begun.info.run_id).continued()
    tags = {
        "mlflow.runName": name,
        "mlflow.source.name": "recsys train",
        "recsys.version": version("recsys"),
        **code_version(),
        "recsys.output": config.output,
        **({_IDENTITY_TAG: identity} if identity is not None else {}),
        **tags,
    }
    run_id = client.create_run(
        experiment, run_name=name, tags=tags, start_time=int(time.time() * 1000)
    ).info.run_id
    _log_params(client, run_id, params, {})
    return Run(client, run_id)


def _begun(client: Any, experiment: str, config: Config, identity: str) -> Any | None:
    """Returns the run of some work that a killed process began; None where there is none."""
    running = f"attributes.status = 'RUNNING' and tags.`{_IDENTITY_TAG}` = '{identity}'"
    runs = client.search_runs([experiment], running)
    output = config.output
    return next((run for run in runs if run.data.tags.get("recsys.output") == output), None)


def _log_params(
    client: Any, run_id: str, params: Mapping[str, str], has: Mapping[str, str]
) -> None:
    """Logs parameters that a run does not have: MLflow lets none be changed."""
    from mlflow.entities import Param

    entries = [Param(name, value) for name, value in params.items() if name not in has]
    for start in range(0, len(entries), _PARAMS_AT_ONCE):
        client.log_batch(run_id, params=entries[start : start + _PARAMS_AT_ONCE])


def open_run(config: Config, run_id: str) -> Run | None:
    """Opens an earlier run of any status; None where the store does not have it any more.

    Raises:
        UserError: The store does not answer or refuses.
    """
    uri = tracking_uri(config)
    with _answering(f"cannot open run {run_id}", uri):
        client = mlflow_client(uri)
        run = unless_absent(client.get_run, run_id)
    # A run that was deleted is kept, but nothing can be added to it.
    return Run(client, run_id) if run is not None and run.info.lifecycle_stage == _ACTIVE else None


def _valid_name(name: str) -> str:
    """Turns `recall@10` into `recall_at_10`: MLflow allows few characters."""
    return re.sub(r"[^\w\-. :/]", "_", name.replace("@", "_at_"), flags=re.ASCII)


def sqlite_path(uri: str) -> Path | None:
    """Returns the file of a SQLite store; None for other stores, and for one in memory."""
    match = _SQLITE_FILE.fullmatch(uri)
    return Path(match["file"]) if match else None


def _experiment(client: Any, config: Config) -> str:
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(config.tracking.experiment)
    if experiment is not None:
        if experiment.lifecycle_stage != _ACTIVE:
            raise UserError(
                f"the experiment {experiment.name!r} was deleted in MLflow; restore it with "
                f"`MLFLOW_TRACKING_URI={tracking_uri(config)} mlflow experiments restore "
                f"--experiment-id {experiment.experiment_id}`, or name another in "
                "tracking.experiment."
            )
        for name in EXPERIMENT_TAGS.keys() - experiment.tags.keys():
            client.set_experiment_tag(experiment.experiment_id, name, EXPERIMENT_TAGS[name])
        return experiment.experiment_id
    path = sqlite_path(tracking_uri(config))
    # By default MLflow would take the working directory.
    location = artifacts_of(path).as_uri() if path is not None else None
    try:
        return client.create_experiment(
            config.tracking.experiment, artifact_location=location, tags=dict(EXPERIMENT_TAGS)
        )
    except MlflowException:  # Another training was faster.
        experiment = client.get_experiment_by_name(config.tracking.experiment)
        if experiment is None:
            raise
        return experiment.experiment_id


def code_version() -> dict[str, str]:
    """Returns tags with the commit of the code, where it runs from a checkout."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        process = subprocess.run(
            ["git", "-C", str(here), *arguments], capture_output=True, text=True, check=True
        )
        return process.stdout.strip()

    try:
        commit = git("rev-parse", "HEAD")
        is_changed = bool(git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {"mlflow.source.git.commit": commit, "recsys.code_changed": str(is_changed).lower()}


def _flat(value: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Yields leaves of a nested configuration: `training.epochs`, `features.item.genres.dim`."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{prefix}.{key}" if prefix else key)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for entry in value:
            yield f"{prefix}.{entry.get('name', entry.get('kind'))}", entry
    else:
        yield prefix, value
