"""The working directory of `prepare`, beside the prepared directory.

    prepared.work/
      lock                  held while a process prepares
      plan.json             see `Workspace.buckets`
      scans/                scan of each piece of the events, as long as the piece is the same
      build/<inputs>/       files of one run, until it is finished
        done/               summary of each finished task
        scratch/            what its tasks hand each other
        prepared/           the new prepared directory

Every file here is written under a temporary name and renamed, and a task's summary is written after
all else that the task writes. So a run that was killed at any moment is resumed from its finished
tasks.
"""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from feature_store.core.documents import read_object
from feature_store.core.errors import UserError
from feature_store.core.files import (
    marked_by,
    require_replaceable,
    sync_tree,
    write_json,
)
from feature_store.core.locks import locked, waiting
from feature_store.core.manifests import MANIFEST, written_as
from feature_store.core.temporary import remove_temporary_files
from pipelines.prepared.manifest import PreparedManifest

# Names that tell the working directory from others.
_MARKS = ("scans", "build", "plan.json")
# Factor by which buckets may be larger or smaller than planned before all events are cut anew.
_DRIFT = 4


@dataclass(frozen=True)
class Build:
    """The directories of one run."""

    root: Path

    @property
    def done(self) -> Path:
        """Folder of the summaries of finished tasks."""
        return self.root / "done"

    @property
    def scratch(self) -> Path:
        """Folder of what tasks hand each other."""
        return self.root / "scratch"

    @property
    def prepared(self) -> Path:
        """The new prepared directory."""
        return self.root / "prepared"


class Workspace:
    """The working directory of a prepared directory.

    Args:
        output: The prepared directory.
        refit_of: Prepared directory of the same log, whose scans are used and kept; None: it has
            its own.
    """

    def __init__(self, output: Path, refit_of: Path | None = None) -> None:
        self.output = output.absolute()
        self.root = self.output.with_name(f"{self.output.name}.work")
        self.lender = Workspace(refit_of) if refit_of is not None else None

    @property
    def scans(self) -> Path:
        """Folder of the scans."""
        return self.lender.scans if self.lender is not None else self.root / "scans"

    def require_own(self) -> None:
        """Raises `UserError` where one of the two directories holds something else."""
        require_replaceable(self.output, written_as(PreparedManifest))
        require_replaceable(self.root, marked_by(*_MARKS))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes out, and publishes what a killed one had finished.

        Raises:
            UserError: Another process writes or reads this directory.
        """
        with ExitStack() as stack:
            if self.lender is not None:
                stack.enter_context(self.lender.locked())
            stack.enter_context(locked(self.output))
            remove_temporary_files(self.root)  # They may hold what is forgotten by now.
            self._recover()
            yield

    def tidy_up(self) -> None:
        """Removes a build that a killed run had published already, unless a process is at work."""
        if any(self.root.glob("build/*")):
            with suppress(UserError), waiting(None), self.locked():
                pass

    def build(self, inputs: str) -> Build:
        """Opens the build of these inputs; unfinished builds of others are removed."""
        root = self.root / "build" / inputs
        for other in root.parent.glob("*"):
            if other != root:
                shutil.rmtree(other)
        build = Build(root)
        for directory in (build.done, build.scratch, build.prepared):
            directory.mkdir(parents=True, exist_ok=True)
        return build

    def buckets(self, wanted: int) -> int:
        """Returns the number of buckets: the last one, unless the log's size is very different."""
        if self.lender is not None:
            return self.lender.buckets(wanted)
        path = self.root / "plan.json"
        if path.exists():
            before = int(read_object(path, "buckets")["buckets"])
            if wanted <= _DRIFT * before and before <= _DRIFT * wanted:
                return before
        write_json(path, {"buckets": wanted})
        return wanted

    def publish(self, build: Build) -> None:
        """Puts a build with its manifest in the place of the earlier directory.

        Two renames are not atomic: if a process dies between them, `locked` does the second.
        """
        remove_temporary_files(build.prepared)
        sync_tree(build.prepared)
        if self.output.exists():
            self._replaced.mkdir(parents=True, exist_ok=True)
            self.output.rename(self._replaced / "prepared")
        build.prepared.rename(self.output)
        self._recover()

    @property
    def _replaced(self) -> Path:
        return self.root / "replaced"

    def _recover(self) -> None:
        if not self.output.exists():
            for manifest in sorted(self.root.glob(f"build/*/prepared/{MANIFEST}")):
                manifest.parent.rename(self.output)
                break
            else:
                if (self._replaced / "prepared").exists():
                    (self._replaced / "prepared").rename(self.output)
        if self.output.exists():
            shutil.rmtree(self._replaced, ignore_errors=True)
            for build in self.root.glob("build/*"):
                if not (build / "prepared").exists():  # Published.
                    shutil.rmtree(build)
