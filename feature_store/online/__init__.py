"""Online stores of features and recent histories."""

from pathlib import Path

from feature_store.online.store import OnlineStore
from feature_store.settings import FeatureStoreConfig


def open_online_store(
    settings: FeatureStoreConfig, directory: Path, *, patience: float | None = None
) -> OnlineStore:
    """Opens the store that the configuration names.

    Args:
        settings: Section `feature_store` of the configuration.
        directory: Directory of the feature store; SQLite's files are below it.
        patience: Seconds to wait for the server, or for another writer, where requests wait; None:
            as long as a job may wait.

    Raises:
        UserError: Redis does not answer.
    """
    if settings.online == "redis":
        from feature_store.online.redis import RedisStore

        assert settings.redis_url is not None
        return RedisStore(settings.redis_url, settings.redis_prefix, patience)
    from feature_store.online.sqlite import SqliteStore

    return SqliteStore(directory / "online", patience)
