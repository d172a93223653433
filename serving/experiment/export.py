"""The export of two bundles as one experiment, which one endpoint serves."""

import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from feature_store.core.errors import UserError
from feature_store.core.files import directory_written_atomically, require_replaceable
from feature_store.core.manifests import MANIFEST, written_as
from serving.bundle.manifest import verify
from serving.experiment.experiment import (
    EXPERIMENT_JSON,
    Experiment,
    GuardRail,
    Variant,
    write_experiment,
)

GUARD_RAILS = (
    GuardRail(metric="fallback_rate", worst_relative_change=0.05),
    GuardRail(metric="latency_p99_ms", worst_relative_change=0.25),
)


def export_experiment(
    a: Path,
    b: Path,
    output: Path,
    *,
    split: float,
    salt: str,
    name: str | None = None,
    overrides: Mapping[str, str] | None = None,
    guard_rails: Sequence[GuardRail] = GUARD_RAILS,
    allow_same: bool = False,
) -> Experiment:
    """Copies two bundles and writes experiment.json beside them, all of it at once or nothing.

    The bundles are copied and not linked: a file that was overwritten in place, as `cp` and `rsync
    --inplace` do, would change in the experiment too, and under the server that has it mapped.

    Args:
        a: The control: directory of a bundle, or output of a configuration, which holds one.
        b: The bundle that may replace it.
        output: Directory of the experiment; an earlier experiment there is replaced.
        split: Part of the queries that get b, between 0 and 1.
        salt: Salt of the assignment; another one divides the queries anew.
        name: Name of the experiment, by which queries are assigned, too: keep it and the salt when
            only the split grows. None: name of the directory.
        overrides: `a` or `b` by query id.
        guard_rails: Limits that b must keep.
        allow_same: Whether a and b may be the same bundle, for an A/A test.

    Raises:
        UserError: One is not a bundle, both are the same, the split is not between 0 and 1, or the
            output is a directory with other contents.
    """
    if not 0 < split < 1:
        raise UserError(f"the split is {split:g}, expected the share of b, between 0 and 1.")
    sources = {"a": _bundle_of(a), "b": _bundle_of(b)}
    manifests = [verify(source) for source in sources.values()]
    if manifests[0].seal == manifests[1].seal and not allow_same:
        raise UserError(
            f"{a} and {b} are the same bundle; give two different ones, or --allow-same for an A/A "
            "test."
        )
    is_own = written_as(Experiment, EXPERIMENT_JSON)
    # Bundles of the experiment that is replaced are copied before.
    outside = [s for s in sources.values() if output.resolve() not in s.resolve().parents]
    require_replaceable(output, is_own, outside)
    shares = {"a": 1 - split, "b": split}
    experiment = Experiment(
        name=name or output.resolve().name,
        salt=salt,
        variants=tuple(Variant(name=n, bundle=n, share=share) for n, share in shares.items()),
        overrides=_known(overrides or {}, shares),
        guard_rails=tuple(guard_rails),
        query=manifests[0].query,
        created=datetime.now(UTC),
    )
    with directory_written_atomically(output, is_own) as directory:
        for variant, source in sources.items():
            shutil.copytree(source, directory / variant)
            # The source may have been replaced since it was verified.
            verify(directory / variant)
        write_experiment(directory, experiment)
    return experiment


def _bundle_of(path: Path) -> Path:
    """Returns the bundle in a configuration's output, else the path itself."""
    inner = path / "bundle"
    return inner if (inner / MANIFEST).is_file() and not (path / MANIFEST).exists() else path


def _known(overrides: Mapping[str, str], variants: Mapping[str, float]) -> dict[str, str]:
    for query_id, variant in overrides.items():
        if variant not in variants:
            raise UserError(
                f"the override of query {query_id!r} is to {variant!r}, expected one of: "
                f"{', '.join(variants)}."
            )
    return dict(overrides)
