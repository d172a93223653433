"""A cache of downloaded bundles, each in a directory that is named by its seal."""

import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from feature_store.core.errors import UserError
from feature_store.core.files import directory_written_atomically, never
from feature_store.core.locks import locked, waiting
from serving.bundle.manifest import verify

# Bundles in the cache. A server that has opened one keeps its mapped files when it is removed.
_KEPT = 8
# Seals become names of directories.
_SEAL = re.compile(r"[0-9a-f]{16}")


def cached_bundle(seal: str, download: Callable[[Path], Path], cache: Path | None = None) -> Path:
    """Returns the verified bundle of a seal, downloaded unless it is there and intact.

    Processes may share the cache, which holds the bundles that were used last.

    Args:
        seal: Seal of the bundle.
        download: Function that downloads the bundle below a directory, and returns its path.
        cache: Directory of the cache; None: `recsys/bundles` in XDG_CACHE_HOME or in `~/.cache`.

    Raises:
        UserError: It is not a seal, or another bundle was downloaded.
    """
    if not _SEAL.fullmatch(seal):
        raise UserError(f"{seal!r} is not the seal of a bundle; export the model again.")
    target = (cache or _default_cache()) / seal
    if not _is_intact(target):
        with _locked(target):
            if not _is_intact(target):  # Another process may have downloaded it meanwhile.
                _fetch(target, download)
    with suppress(OSError):  # A cache that cannot be written is as good.
        os.utime(target)
    _prune(target.parent)
    return target


def cached_seals(cache: Path | None = None) -> set[str]:
    """Returns the seals of the bundles that this machine's cache has."""
    cache = cache or _default_cache()
    return {path.name for path in cache.glob("*") if _SEAL.fullmatch(path.name)}


def forget_cached(seals: Iterable[str], cache: Path | None = None) -> None:
    """Removes bundles from this machine's cache; servers keep those that they have opened."""
    for seal in seals:
        target = (cache or _default_cache()) / seal
        with _locked(target):
            shutil.rmtree(target, ignore_errors=True)


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            stack.enter_context(waiting())
            stack.enter_context(locked(target))
        except OSError as error:
            raise UserError(
                f"the cache of bundles {target.parent} cannot be written ({error.strerror}); set "
                "XDG_CACHE_HOME to a directory that can be."
            ) from error
        yield


def _default_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "recsys" / "bundles"


def _is_intact(target: Path) -> bool:
    try:
        return verify(target).seal == target.name
    except UserError:
        return False


def _fetch(target: Path, download: Callable[[Path], Path]) -> None:
    shutil.rmtree(target, ignore_errors=True)  # It is damaged, and nothing else has its name.
    with directory_written_atomically(target, never) as directory:
        scratch = directory / ".download"
        scratch.mkdir()
        bundle = download(scratch)
        seal = verify(bundle).seal
        if seal != target.name:
            raise UserError(
                f"the downloaded bundle has the seal {seal}, expected {target.name}, under which "
                "it was registered; export the model again."
            )
        for file in bundle.iterdir():
            file.rename(directory / file.name)
        shutil.rmtree(scratch)


def _prune(cache: Path) -> None:
    """Removes all but the bundles that were used last."""
    bundles = [path for path in cache.iterdir() if _SEAL.fullmatch(path.name)]
    if len(bundles) <= _KEPT:
        return
    for path in sorted(bundles, key=_last_used)[:-_KEPT]:
        shutil.rmtree(path, ignore_errors=True)


def _last_used(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # Another process removed it meanwhile.
        return 0.0
