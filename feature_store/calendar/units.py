"""Units of times that are numbers, and orders of the parts of dates that are text."""

from typing import Literal

# Meaning of the values of a column of times; `docs/data.md` has a table.
TimeUnit = Literal[
    "s",
    "ms",
    "us",
    "ns",
    "minutes",
    "hours",
    "days",
    "yyyymmdd",
    "excel",
    "julian",
    "apple",
    "webkit",
    "filetime",
    "dotnet",
    "dmy",
    "mdy",
    "ymd",
]
