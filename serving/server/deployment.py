"""The bundles that answer, and their replacement while requests are being answered."""

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
from serving.recommend.load import LateRead, load, local_bundle
from serving.recommend.online import OnlineQueries
from serving.recommend.recommender import Recommender
from serving.server.metrics import ServerMetrics

_logger = logging.getLogger(__name__)

# Name of the only variant where there is no experiment.
MAIN = "main"


@dataclass(frozen=True)
class Serving:
    """The recommenders that answer; replaced as a whole, so that no request sees halves of two.

    Attributes:
        recommenders: Recommender of each variant; the first is the control.
        experiment: Experiment that divides the queries; None where there is one variant.
    """

    recommenders: Mapping[str, Recommender]
    experiment: Experiment | None = None

    @property
    def seals(self) -> tuple[str, ...]:
        """Seals of the bundles."""
        return tuple(each.manifest.seal for each in self.recommenders.values())

    def choose(self, query_id: str | None, override: str | None) -> tuple[str, Recommender, bool]:
        """Chooses the variant that answers a query.

        Args:
            query_id: Id of the query; None: nobody in particular, answered by the control.
            override: Name of a variant, for tests.

        Returns:
            The variant's name, its recommender, and whether the choice was not by the hash.

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
        """Returns the part of the queries that a variant answers."""
        if self.experiment is None:
            return 1.0
        return next(v.share for v in self.experiment.variants if v.name == name)


class Source:
    """The source of bundles, which tells whether there are newer ones.

    Args:
        bundle: Directory of a bundle or of an experiment, or a version in MLflow's registry.
        other: Second bundle, for an experiment that is not on disk.
        split: Part of the queries that the second bundle answers.
        online: Source of state since the export; None: there is none.
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
        """Returns a value that changes when the bundles do; costs little."""
        if self._is_experiment:
            directory = Path(self._bundle)
            bundles = [directory / v.bundle for v in read_experiment(directory).variants]
            return [_stamp(directory / EXPERIMENT_JSON), *(_version(b) for b in bundles)]
        return [_version(each) for each in (self._bundle, self._other) if each is not None]

    def open(self, *, late: LateRead = "at_once") -> Serving:
        """Reads, verifies and tries the bundles.

        Args:
            late: Time at which query towers are read; see `load`.

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
            opened = {name: self._open(path, late) for name, path in paths.items()}
            return Serving(opened, experiment)
        first = self._open(self._bundle, late)
        if self._other is None:
            return Serving({MAIN: first})
        second = self._open(self._other, late)
        return Serving({"a": first, "b": second}, self._experiment())

    @property
    def _is_experiment(self) -> bool:
        return (Path(self._bundle) / EXPERIMENT_JSON).is_file()

    def _open(self, bundle: str | Path, late: LateRead) -> Recommender:
        directory = local_bundle(bundle)
        recommender = load(directory, online=self._online, late=late)
        golden = read_golden(directory)
        require_golden(recommender, golden)
        return recommender

    def _experiment(self) -> Experiment:
        if not 0 < self._split < 1:
            raise UserError(f"the split is {self._split}, expected the share of b, within 0 and 1.")
        shares = {"a": 1 - self._split, "b": self._split}
        return Experiment(
            # The name does not depend on the bundles: nobody changes sides when one is replaced.
            name="serve",
            salt="",
            variants=tuple(Variant(name=n, bundle=n, share=s) for n, s in shares.items()),
            created=datetime.now(UTC),
        )


class Deployment:
    """The bundles that answer now, those before them, and the thread that looks for newer ones.

    Args:
        source: Source of bundles.
        metrics: Metrics of the server.
        is_logged: Whether a log is kept, which is of one division of the queries.

    Attributes:
        serving: The recommenders that answer now.
        is_reading: Whether newer bundles are being read.

    Raises:
        UserError: No bundle can be opened.
    """

    def __init__(self, source: Source, metrics: ServerMetrics, *, is_logged: bool = False) -> None:
        self._source = source
        self._is_logged = is_logged
        self._metrics = metrics
        self._lock = threading.Lock()
        self._version = source.version()
        # No request is answered before the first bundle is open; later ones can take their time.
        self.serving = source.open(late="in_background")
        self.is_reading = False
        self._before: Serving | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._set_models()

    def reload(self) -> bool:
        """Replaces the bundles by newer ones where there are any.

        Returns:
            Whether other bundles answer now.

        Raises:
            UserError: The newer bundles are refused; the old ones still answer.
        """
        with self._lock:
            version = self._source.version()
            if version == self._version:
                return False
            # A refused version is not tried again until it changes.
            self._version = version
            self.is_reading = True
            try:
                newer = self._source.open()
            except UserError:
                self._metrics.count_swap("refused")
                raise
            finally:
                self.is_reading = False
            if newer.seals == self.serving.seals and newer.experiment == self.serving.experiment:
                return False
            if self._is_logged and division(newer.experiment) != division(self.serving.experiment):
                self._metrics.count_swap("refused")
                raise UserError(
                    "the experiment's name, salt or shares have changed, so its answers do not "
                    "belong in this log; restart the server with another --log."
                )
            self._replace(newer, "done")
            return True

    def rollback(self) -> bool:
        """Restores the bundles before, until newer ones come; False where there are none."""
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
        """Stops looking for newer bundles."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self, seconds: float) -> None:
        while not self._stop.wait(seconds):
            try:
                if self.reload():
                    _logger.warning("serving %s now", ", ".join(self.serving.seals))
            except Exception as error:  # Whatever befalls a disk or a registry.
                _logger.warning("still serving the previous bundles: %s", error)

    def _replace(self, serving: Serving, result: str) -> None:
        # One assignment: a request has either the old bundles or the new ones.
        self._before, self.serving = self.serving, serving
        self._metrics.count_swap(result)
        self._set_models()

    def _set_models(self) -> None:
        manifests = {n: r.manifest for n, r in self.serving.recommenders.items()}
        self._metrics.set_models(
            {name: manifest.items for name, manifest in manifests.items()},
            {name: manifest.fingerprint for name, manifest in manifests.items()},
        )


def _version(bundle: str | Path) -> object:
    if str(bundle).startswith("models:/"):
        from serving.registry.registry import current_version

        return current_version(str(bundle))
    return _stamp(Path(bundle) / MANIFEST)


def _stamp(path: Path) -> tuple[int, int] | None:
    """Returns what changes with a file; None where there is none, which `open` reports."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns
