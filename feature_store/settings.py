"""The `feature_store` section of the configuration."""

from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from feature_store.core.settings import Settings

PASSWORD_VARIABLE = "RECSYS_REDIS_PASSWORD"


class FeatureStoreConfig(Settings):
    """The store of the latest features and histories for serving."""

    online: Literal["sqlite", "redis"] = Field(
        "sqlite", description="Kind of store; sqlite: files beside the output; redis: a server."
    )
    redis_url: str | None = Field(
        None,
        description="Address: redis://host:6379/0, rediss://, or unix:///path. The password is "
        f"read from {PASSWORD_VARIABLE}.",
    )
    redis_prefix: str = Field(
        "recsys",
        min_length=1,
        description="Prefix of all keys; two systems on one server need different ones.",
    )

    @model_validator(mode="after")
    def _settings_agree(self) -> "FeatureStoreConfig":
        if self.online == "sqlite":
            for key in ("redis_url", "redis_prefix"):
                # Manifests list every key, so a default may be given.
                if getattr(self, key) != type(self).model_fields[key].default:
                    raise ValueError(
                        f"{key} has no effect with online sqlite; remove it or set online: redis"
                    )
            return self
        if self.redis_url is None:
            raise ValueError("online redis needs redis_url, such as redis://localhost:6379/0")
        parts = urlsplit(self.redis_url)
        if parts.scheme not in ("redis", "rediss", "unix"):
            raise ValueError("redis_url begins with redis://, rediss:// or unix://")
        if parts.password is not None or "password=" in parts.query:
            raise ValueError(
                f"redis_url holds a password, which would be written into manifests; set "
                f"{PASSWORD_VARIABLE} in the environment instead"
            )
        return self
