"""Which bundles answer, and how they are replaced while requests are being answered."""

import gc
import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from feature_store.core.errors import UserError
from feature_store.core.manifests import MANIFEST
from serving.experiment.experiment import EXPERIMENT_JSON, Experiment, Variant, read_experiment
from serving.experiment.exposure_log import division
from serving.recommend.golden import read_golden, require_golden
from serving.recommend.load import load, local_bundle
from serving.recommend.online import OnlineQueries
from serving.recommend.recommender import Recommender
from serving.server.metrics import Measures

_logger = logging.getLogger(__name__)

# The only variant where there is no experiment.
MAIN = "main"


@dataclass(frozen=True)
class Serving:
    """What answers: never changed, but replaced as a whole, so that no request sees halves of two.

    Attributes:
        recommenders: By variant; the first is the control.
        experiment: None where there is one variant.
    """

    recommenders: Mapping[str, Recommender]
    experiment: Experiment | None = None

    @property
    def seals(self) -> tuple[str, ...]:
        """Of the bundles."""
        return tuple(each.manifest.seal for each in self.recommenders.values())

    def choose(self, query_id: str | None, override: str | None) -> tuple[str, Recommender, bool]:
        """The variant that answers a query, its recommender, and whether it was not by the hash.

        Args:
            query_id: None: nobody in particular, whom the control answers.
            override: A variant's name, for tests.

        Raises:
            UserError: There is no such variant.
        """
        control = next(iter(self.recommenders))
        if override is not None:
            if override not in self.recommenders:
                raise UserError(
                    f"variant {override!r} is none of {', '.join(self.recommenders)}; leave it out."
                )
            return override, self.recommenders[override], True
        if self.experiment is None or query_id is None:
            return control, self.recommenders[control], self.experiment is not None
        name = self.experiment.assign(query_id)
        return name, self.recommenders[name], query_id in self.experiment.overrides

    def share(self, name: str) -> float:
        """Of the queries that a variant answers."""
        if self.experiment is None:
            return 1.0
        return next(v.share for v in self.experiment.variants if v.name == name)


class Source:
    """Where bundles come from, and whether there are newer ones.

    Args:
        bundle: A directory, that of an experiment, or a version in MLflow's registry.
        other: A second bundle, for an experiment that is not on disk.
        split: The share of the second.
        online: What came since the bundles were made.
    """

    def __init__(
        self,
        bundle: str | Path,
        other: str | Path | None = None,
        *,
        split: float = 0.5,
        online: OnlineQueries | None = None,
    ) -> None:
        self._bundle = bundle
        self._other = other
        self._split = split
        self._online = online

    def version(self) -> Sequence[object]:
        """Changes when the bundles do; costs little."""
        if self._is_experiment:
            directory = Path(self._bundle)
            bundles = [directory / v.bundle for v in read_experiment(directory).variants]
            return [_stamp(directory / EXPERIMENT_JSON), *(_version(b) for b in bundles)]
        return [_version(each) for each in (self._bundle, self._other) if each is not None]

    def open(self, *, is_later: bool = False) -> Serving:
        """Reads, verifies and tries the bundles.

        Args:
            is_later: See `serving.recommend.load.load`.

        Raises:
            UserError: One of them is corrupt, or does not answer its golden queries as it should.
        """
        if self._is_experiment:
            if self._other is not None:
                raise UserError(
                    f"{self._bundle} is an experiment, which has its bundles; give it alone."
                )
            experiment = read_experiment(Path(self._bundle))
            paths = {v.name: Path(self._bundle) / v.bundle for v in experiment.variants}
            opened = {name: self._open(path, is_later) for name, path in paths.items()}
            return Serving(opened, experiment)
        first = self._open(self._bundle, is_later)
        if self._other is None:
            return Serving({MAIN: first})
        second = self._open(self._other, is_later)
        return Serving({"a": first, "b": second}, self._experiment())

    @property
    def _is_experiment(self) -> bool:
        return (Path(self._bundle) / EXPERIMENT_JSON).is_file()

    def _open(self, bundle: str | Path, is_later: bool) -> Recommender:
        directory = local_bundle(bundle)
        recommender = load(directory, online=self._online, is_later=is_later)
        golden = read_golden(directory)
        # What came since is not in what the golden answers were computed from.
        require_golden(recommender.without_online(), golden)
        return recommender

    def _experiment(self) -> Experiment:
        if not 0 < self._split < 1:
            raise UserError(f"the split is {self._split}, expected the share of b, within 0 and 1.")
        shares = {"a": 1 - self._split, "b": self._split}
        return Experiment(
            # The same whatever the bundles: nobody changes sides when one of them is replaced.
            name="serve",
            salt="",
            variants=tuple(Variant(name=n, bundle=n, share=s) for n, s in shares.items()),
            created=datetime.now(UTC),
        )


class Deployment:
    """The bundles that answer now, those before them, and whoever looks for newer ones.

    Args:
        source: Of bundles.
        measures: Are told.
        is_logged: Whether a log is kept, which is of one division of the queries.

    Attributes:
        serving: What answers now.
        is_reading: Newer ones are being read.

    Raises:
        UserError: There is nothing that could answer.
    """

    def __init__(self, source: Source, measures: Measures, *, is_logged: bool = False) -> None:
        self._source = source
        self._is_logged = is_logged
        self._measures = measures
        self._lock = threading.Lock()
        self._version = source.version()
        # Nobody is answered before the first bundle is there; later ones can take their time.
        self.serving = source.open(is_later=True)
        self.is_reading = False
        self._before: Serving | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._tell()

    def reload(self) -> bool:
        """Serves newer bundles where there are any; else, or where they are corrupt, the same.

        Returns:
            Whether others are served now.

        Raises:
            UserError: The newer ones are refused, and the old ones go on.
        """
        with self._lock:
            version = self._source.version()
            if version == self._version:
                return False
            # A refused one is not tried again until it changes.
            self._version = version
            self.is_reading = True
            try:
                found = self._source.open()
            except UserError:
                self._measures.swapped("refused")
                raise
            finally:
                self.is_reading = False
            if found.seals == self.serving.seals and found.experiment == self.serving.experiment:
                return False
            if self._is_logged and division(found.experiment) != division(self.serving.experiment):
                self._measures.swapped("refused")
                raise UserError(
                    "the experiment's name, salt or shares are others now, and its log is of the "
                    "former ones; start the server anew with another --log."
                )
            self._replace(found, "done")
            return True

    def rollback(self) -> bool:
        """Serves the bundles before, until newer ones come; False where there are none."""
        with self._lock:
            if self._before is None:
                return False
            self._replace(self._before, "back")
            return True

    def watch(self, seconds: float) -> None:
        """Looks for newer bundles in the background until `close`."""
        self._thread = threading.Thread(
            target=self._watch, args=(seconds,), name="reload", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Ends the watching."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self, seconds: float) -> None:
        while not self._stop.wait(seconds):
            try:
                if self.reload():
                    _logger.warning("serving %s now", ", ".join(self.serving.seals))
            except Exception as error:  # Whatever befalls a disk or a registry, the old ones go on.
                _logger.warning("still serving the bundles before: %s", error)

    def _replace(self, found: Serving, result: str) -> None:
        # One assignment: a request has either the old bundles or the new ones.
        self._before, self.serving = self.serving, found
        self._measures.swapped(result)
        self._tell()
        gc.collect()  # The graphs of torch's programs hold themselves in cycles.

    def _tell(self) -> None:
        manifests = {n: r.manifest for n, r in self.serving.recommenders.items()}
        self._measures.serves(
            {name: manifest.items for name, manifest in manifests.items()},
            {name: manifest.fingerprint for name, manifest in manifests.items()},
        )


def _version(bundle: str | Path) -> object:
    if str(bundle).startswith("models:/"):
        from serving.registry.registry import current_version

        return current_version(str(bundle))
    return _stamp(Path(bundle) / MANIFEST)


def _stamp(path: Path) -> tuple[int, int] | None:
    """None where there is no file, of which `open` has more to say."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns
