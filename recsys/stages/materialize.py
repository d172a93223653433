"""The `materialize` stage of a configuration."""

from rich.console import Console

from feature_store.forgotten import Forgotten
from pipelines.executor import executor_named
from pipelines.materialize.materialize import Materialization
from pipelines.materialize.materialize import materialize as fill_feature_store
from recsys.config.config import Config


def materialize(config: Config, *, console: Console | None = None) -> Materialization:
    """Fills the feature store from the prepared data, or returns at once if that is done.

    Args:
        config: Configuration with the output, the feature store and the executor.
        console: Console for progress.

    Returns:
        The manifest of `config.feature_store_dir`.

    Raises:
        UserError: Nothing is prepared, the tables changed since, or the online store is not there.
    """
    return fill_feature_store(
        config.prepared_dir,
        config.feature_store_dir,
        config.feature_store,
        executor=executor_named(config.executor),
        data=config.data,
        forgotten=Forgotten.load(config.forgotten_path),
        console=console,
    )
