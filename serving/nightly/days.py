"""The directories of the days, and which of them is served.

    <output>/
      2026-11-23/        outcome.json, day.html, sources.json: what the day did, for programs and
                         people, and the files it read; of a day with a model also evaluation/ and
                         comparison/; of one with a new champion what a later day needs of it:
                         bundle/, train/, fusion/, refit/train/, learnt.npy
      adopted/           the same of a champion that another command had made
      suspects.json      marks of the files that days were refused for
      latest             link to the day of the champion

Files are linked where the file system can: a day takes no more room than its model.
"""

import os
import re
import shutil
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path

from feature_store.core.documents import read_json, read_record
from feature_store.core.errors import UserError
from feature_store.core.files import (
    directory_written_atomically,
    linked_tree,
    require_replaceable,
    write_array,
    write_json,
    write_text,
)
from feature_store.core.manifests import written_as
from feature_store.core.temporary import is_temporary
from pipelines.prepared.reader import Prepared
from recsys.config.config import Config
from serving.bundle.manifest import read_manifest as read_bundle
from serving.nightly.outcome import Outcome

OUTCOME, PAGE, LATEST = "outcome.json", "day.html", "latest"
SOURCES, LEARNT = "sources.json", "learnt.npy"
_ADOPTED, _SUSPECTS, _TOLD = "adopted", "suspects.json", ".told"
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}-[0-9]{2}-[0-9]{2})?", re.ASCII)
# Parts of a day with a new champion.
_MODEL = ("bundle", "train", "fusion", "refit/train")

_IS_OWN = written_as(Outcome, OUTCOME)


def day_name(as_of: datetime) -> str:
    """Returns the name of a day's directory; with the time of day where it is not midnight."""
    is_midnight = (as_of.hour, as_of.minute, as_of.second) == (0, 0, 0)
    return f"{as_of:%Y-%m-%d}" if is_midnight else f"{as_of:%Y-%m-%dT%H-%M-%S}"


class Days:
    """Directories of the days below an output.

    Args:
        config: Configuration with the output.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._root = Path(config.output)

    def path(self, name: str) -> Path:
        """Returns the directory of a day."""
        return self._root / name

    def require_own(self, name: str) -> None:
        """Refuses a directory of a day in which something would be lost, with a `UserError`."""
        require_replaceable(self.path(name), _IS_OWN)

    def outcome(self, name: str) -> Outcome | None:
        """Reads the outcome of a day; None where there is none that can be read."""
        path = self.path(name) / OUTCOME
        try:
            return read_record(path, Outcome) if path.is_file() else None
        except UserError:
            return None

    def finished(self) -> list[Outcome]:
        """Returns the outcomes of the days that are finished, in order."""
        return [outcome for outcome in self._all() if outcome.is_final]

    def _all(self) -> list[Outcome]:
        """Returns the outcomes of all days that can be read, in order."""
        if not self._root.is_dir():
            return []
        names = sorted(each.name for each in self._root.iterdir() if _DAY.fullmatch(each.name))
        found = (self.outcome(name) for name in names)
        return [outcome for outcome in found if outcome is not None]

    def of_seal(self, seal: str) -> tuple[Path, Outcome] | None:
        """Returns the day whose bundle has a seal, with its outcome."""
        named = [(outcome.date, outcome) for outcome in self.finished()]
        for name, outcome in [*named, (_ADOPTED, self.outcome(_ADOPTED))]:
            if outcome is not None and outcome.seal == seal:
                return self.path(name), outcome
        return None

    def sources(self, name: str) -> set[str]:
        """Returns the marks of the files that a day has read; empty where that is not known."""
        path = self.path(name) / SOURCES
        return set(read_json(path)) if path.is_file() else set()

    def suspects(self) -> dict[str, str]:
        """Returns the days that files were refused on, by the files' marks."""
        path = self._root / _SUSPECTS
        return read_json(path) if path.is_file() else {}

    def suspect(self, days: Mapping[str, str]) -> None:
        """Notes the days that files were refused on, by the files' marks."""
        path = self._root / _SUSPECTS
        if days or path.is_file():
            write_json(path, dict(sorted(days.items())))

    def rename_marks(self, marks: Mapping[str, str | None]) -> None:
        """Replaces marks of files that were written again; None: the file is gone."""
        for outcome in self._all():
            before = self.sources(outcome.date)
            after = {marks.get(mark, mark) for mark in before} - {None}
            if after != before:
                write_json(self.path(outcome.date) / SOURCES, sorted(filter(None, after)))
        days = {marks.get(mark, mark): day for mark, day in self.suspects().items()}
        self.suspect({mark: day for mark, day in days.items() if mark is not None})

    def models(self) -> list[Path]:
        """Returns what the days hold of their models and logs, and what a kill left of it."""
        parts = {*(part.partition("/")[0] for part in _MODEL), "evaluation", "comparison"}
        parts |= {PAGE, LEARNT}
        named = [self.path(outcome.date) for outcome in self._all()]
        return [
            entry
            for day in [*named, self.path(_ADOPTED)]
            if day.is_dir()
            for entry in sorted(day.iterdir())
            if entry.name in parts or is_temporary(entry.name)
        ]

    def names(self) -> set[str]:
        """Returns the names that the job gives to what it writes below the output."""
        return {outcome.date for outcome in self._all()} | {_ADOPTED, _SUSPECTS, LATEST}

    def write(
        self, outcome: Outcome, sources: Iterable[str], page: str, *, is_compared: bool
    ) -> None:
        """Keeps a day, as a whole or not at all.

        Args:
            outcome: Outcome of the day.
            sources: Marks of the files of the log that were read.
            page: Page of the day.
            is_compared: Whether the stages' comparison is that of the day.
        """
        parts = ["evaluation"] if outcome.is_final else []
        parts += ["comparison"] if is_compared else []
        self._keep(self.path(outcome.date), outcome, sources, page, parts)

    def adopt(self, outcome: Outcome) -> None:
        """Keeps the model of the stages, which another command has made the champion."""
        self._keep(self.path(_ADOPTED), outcome, (), "", [])

    def _keep(
        self, path: Path, outcome: Outcome, sources: Iterable[str], page: str, parts: list[str]
    ) -> None:
        if outcome.seal is not None:
            # A model without channels may have found the lists of an earlier one there.
            is_fused = read_bundle(self._config.bundle_dir).fusion is not None
            parts = [*parts, *(part for part in _MODEL if is_fused or part != "fusion")]
        with directory_written_atomically(path, _IS_OWN) as directory:
            for part in parts:
                if (self._root / part).is_dir():
                    linked_tree(self._root / part, directory / part)
            if outcome.seal is not None:
                learnt = Prepared(self._config.prepared_dir).has_learnt_id
                write_array(directory / LEARNT, learnt)
            if page:
                write_text(directory / PAGE, page)
            write_json(directory / SOURCES, sorted(sources))
            write_json(directory / OUTCOME, outcome.model_dump(mode="json"))

    def is_told(self, outcome: Outcome) -> bool:
        """Returns whether the outcome of a day was told."""
        return (self.path(outcome.date) / _TOLD).exists()

    def note_told(self, outcome: Outcome) -> None:
        """Notes that the outcome of a day was told."""
        (self.path(outcome.date) / _TOLD).touch()

    def point_latest(self, seal: str) -> None:
        """Makes `latest` the day of a bundle, in one step; without such a day it stays.

        Raises:
            UserError: There is something else of that name.
        """
        found = self.of_seal(seal)
        link = self._root / LATEST
        if found is None or (link.is_symlink() and os.readlink(link) == found[0].name):
            return
        if link.exists() and not link.is_symlink():
            raise UserError(
                f"{link} is no link, expected the one to the champion's day; remove it, or choose "
                "another output."
            )
        temporary = link.with_name(f".{LATEST}.tmp")
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(found[0].name, target_is_directory=True)
        temporary.replace(link)

    def prune(self, retention: int, seals: set[str]) -> None:
        """Removes the oldest days, but neither those of some bundles nor what is no day.

        The last finished day stays, too: without it the next one would not know what is new.

        Args:
            retention: Number of days to keep.
            seals: Seals of the bundles whose days stay.
        """
        days = self._all()
        last = next((outcome for outcome in reversed(days) if outcome.is_final), None)
        for outcome in days[: max(0, len(days) - retention)]:
            if outcome is not last and outcome.seal not in seals:
                shutil.rmtree(self.path(outcome.date))
