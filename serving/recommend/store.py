"""The online store of a configuration, as a server or as a command asks it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from feature_store.core.errors import UserError
from feature_store.online import open_online_store
from feature_store.online.features import OnlineFeatures
from feature_store.online.store import Contents, OnlineStore, nothing_materialized
from feature_store.schema import FeatureSchema
from feature_store.settings import FeatureStoreConfig
from serving.recommend.load import LateRead, load
from serving.recommend.online import OnlineState
from serving.recommend.recommender import Recommender
from serving.recommend.stored import PATIENCE, StoredQueries, state_of


@dataclass(frozen=True)
class Store:
    """The online store of a configuration.

    Attributes:
        settings: Section `feature_store` of the configuration.
        directory: Directory of the feature store.
    """

    settings: FeatureStoreConfig
    directory: Path

    def open(self) -> tuple[StoredQueries, FeatureSchema]:
        """Opens the store for a server, in this process; returns its schema, too.

        Raises:
            UserError: Nothing was materialized, the store is broken, or Redis does not answer.
        """
        # Half of it, for the client tries twice.
        store = open_online_store(self.settings, self.directory, patience=PATIENCE / 2)
        return StoredQueries(store), _contents(store).features

    def open_for_command(self) -> tuple["AwaitedQueries", FeatureSchema]:
        """Opens the store for a command, in this process; returns its schema, too.

        Raises:
            UserError: Nothing was materialized, the store is broken, or Redis does not answer.
        """
        store = open_online_store(self.settings, self.directory)
        return AwaitedQueries(store), _contents(store).features


class AwaitedQueries:
    """The online store, without which there is no answer.

    A server that cannot reach it answers from the bundle; what a command writes would be half of
    the store and half of the bundle, and nobody could tell which half.

    Args:
        store: Store that `feature_store.online.open_online_store` opened.
    """

    def __init__(self, store: OnlineStore) -> None:
        self._features = OnlineFeatures(store)

    def states(self, query_ids: Sequence[str]) -> list[OnlineState]:
        """Reads features and histories; `NOTHING` where the store does not know a query.

        Raises:
            UserError: The store does not answer.
        """
        try:
            return [state_of(each) for each in self._features.queries(query_ids)]
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"the online store does not answer ({error}); try again when it does."
            ) from error


def load_for_command(
    path: str | Path, store: Store | None, *, late: LateRead = "at_once"
) -> Recommender:
    """Opens a recommender that answers from the bundle and the online store, if there is one.

    Args:
        path: A bundle, as `load` takes it.
        store: Online store; None: the bundle alone.
        late: Time at which the query tower is read; see `load`.

    Raises:
        UserError: The bundle or the store cannot be opened, or they are of different models.
    """
    if store is None:
        return load(path, late=late)
    queries, schema = store.open_for_command()
    recommender = load(path, online=queries, late=late)
    require_same_features(recommender, schema)
    return recommender


def require_same_features(recommender: Recommender, schema: FeatureSchema) -> None:
    """Refuses an online store whose features are none of the model's, with a `UserError`."""
    fault = recommender.fault_of_store(schema)
    if fault is not None:
        raise UserError(
            f"the online store is of another model than the bundle ({fault}); give --online the "
            "configuration that the bundle was exported with, after its `materialize`."
        )


def _contents(store: OnlineStore) -> Contents:
    contents = store.contents()
    if contents is None:
        raise nothing_materialized()
    return contents
