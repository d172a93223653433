"""The name of a log's data, from where it is."""

import os
import re

from pipelines.urls import is_url, shown
from recsys.autoconfig.names import normalised

# Names of files and directories that every log may have, and so no names of data.
_PLAIN_NAMES = set(
    [
        "events",
        "event",
        "interactions",
        "ratings",
        "clicks",
        "log",
        "logs",
        "data",
        "train",
        "parquet",
    ]
)


def data_name(events: str) -> str:
    """Returns a name for the data: the nearest directory whose name is not that of any log."""
    parts = re.split(r"[/\\]", shown(events) if is_url(events) else os.path.abspath(events))
    for part in reversed([part for part in parts if part and not re.search(r"[*?\[\]=:]", part)]):
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", part.removesuffix(".parquet")).strip(".-_")
        if name and normalised(name) not in _PLAIN_NAMES and not name.startswith("part-"):
            return name
    return "recsys"
