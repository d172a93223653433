"""The log without forgotten rows, and the days' marks of its files, which are other ones then."""

from collections.abc import Sequence
from pathlib import Path

from feature_store.core.documents import read_json
from feature_store.core.files import write_json
from feature_store.forgotten import Forgotten
from pipelines.logs.tables import file_marks, list_files
from pipelines.prepare.cleaning.forgotten_rows import FileRows, without_rows
from recsys.config.config import Config
from serving.nightly.days import Days

# Marks of the files before they are written again, for the call after a kill.
_JOURNAL = "forgetting.json"


def rewrite(config: Config, days: Days, found: Sequence[FileRows], forgotten: Forgotten) -> None:
    """Writes files of the log again without forgotten rows, and tells the days.

    Args:
        config: Configuration of the log.
        days: Days, to which a file without news is no new one.
        found: Files of this machine with rows to forget.
        forgotten: Ids to forget.
    """
    settle(config, days)
    if not found:
        return
    before = _marks(config)
    marks = {each.file: before[each.file] for each in found if each.file in before}
    write_json(_journal(config), marks)
    for each in found:
        without_rows(config.data, each, forgotten)
    settle(config, days)


def settle(config: Config, days: Days) -> None:
    """Gives the days the present marks of the files that were written again."""
    path = _journal(config)
    if not path.is_file():
        return
    before, now = read_json(path), _marks(config)
    days.rename_marks({mark: now.get(file) for file, mark in before.items()})
    path.unlink()


def _journal(config: Config) -> Path:
    return Path(config.output) / _JOURNAL


def _marks(config: Config) -> dict[str, str]:
    marks = file_marks(list_files(config.data))
    return {file: mark for of_table in marks.values() for file, mark in of_table.items()}
