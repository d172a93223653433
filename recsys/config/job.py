"""The `job` section of a configuration."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, PlainSerializer

from feature_store.core.bounds import MANY
from feature_store.core.settings import Settings


def _is_address(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("a webhook is an address such as https://example.com/hook")
    return url


def _is_collected(path: str) -> str:
    if not path.endswith(".prom"):
        raise ValueError("the collector reads only files whose names end in .prom")
    return path


def _without_path(url: str | None) -> str | None:
    """Hides what is secret in many webhooks; manifests and experiments show the host alone."""
    if url is None:
        return None
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}/***"


Webhook = Annotated[
    Annotated[str, AfterValidator(_is_address)] | None,
    PlainSerializer(_without_path, when_used="json"),
]


class NotifyConfig(Settings):
    """Receivers of each day's outcome; none of them can fail a job."""

    webhook: Webhook = Field(
        None, description="Address that the JSON of the outcome is posted to; null: none."
    )
    textfile: Annotated[str, AfterValidator(_is_collected)] | None = Field(
        None,
        description="File of gauges for Prometheus' textfile collector, ending in .prom; null: "
        "none.",
    )


class JobConfig(Settings):
    """The nightly job, `recsys run CONFIG --as-of DATE`."""

    retention: int = Field(
        14,
        ge=1,
        le=MANY,
        description="Days whose directories are kept; those of the champion and the challenger are "
        "kept in any case.",
    )
    scratch_days: int | None = Field(
        None,
        ge=1,
        le=MANY,
        description="Days after which training begins from scratch although training.start is "
        "previous; null: never.",
    )
    notify: NotifyConfig = NotifyConfig()
