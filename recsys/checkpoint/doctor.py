"""`recsys doctor`: whether a model fits a configuration and its data, before anything starts.

It reads manifests alone, so that it takes no time.
"""

from typing import Literal

from rich.console import Console

from feature_store.core.documents import read_object
from feature_store.core.manifests import read_manifest
from feature_store.core.settings import Frozen
from pipelines.prepared.reader import Prepared
from recsys.checkpoint.compatibility import Finding, compare, differences
from recsys.checkpoint.manifest import CHECKPOINTS, damage_of, latest_checkpoint, read_checkpoint
from recsys.checkpoint.training_manifest import (
    CHECKPOINT,
    IDENTITY_FILE,
    TrainManifest,
    continued_checkpoint,
    is_up_to_date,
    training_fingerprint,
    work_dir_of,
)
from recsys.config.config import Config

Verdict = Literal["nothing there", "fits", "resizable", "impossible"]


class Unfinished(Frozen):
    """A training that was interrupted.

    Attributes:
        step: Step of its latest checkpoint; 0: there is none.
        goes_on: Whether `recsys train` resumes it, and does not discard it.
        differences: Settings that differ from its own, where it is discarded.
        damaged: Checkpoints that are passed over, with the reasons.
    """

    step: int
    goes_on: bool
    differences: tuple[str, ...]
    damaged: tuple[str, ...]


class Diagnosis(Frozen):
    """Comparison of a configuration with the model of `config.train_dir`.

    Attributes:
        verdict: Verdict on whether the model can be loaded.
        findings: Reasons for the verdict.
        action: Sentence that says what `recsys train` would do now.
        steps: Steps of the checkpoint that a next training would go on from, with those of the
            trainings that it continued.
        unfinished: Interrupted training of the configuration, if there is one.
    """

    verdict: Verdict
    findings: tuple[Finding, ...]
    action: str
    steps: int | None
    unfinished: Unfinished | None


def diagnose(config: Config) -> Diagnosis:
    """Compares without starting or changing anything.

    Args:
        config: Configuration whose data is prepared.

    Raises:
        UserError: There is no prepared data, or a manifest cannot be read.
    """
    prepared = Prepared(config.prepared_dir)
    done = read_manifest(config.train_dir, TrainManifest)
    findings: list[Finding] = []
    steps = None
    if done is not None:
        served = read_checkpoint(config.train_dir / CHECKPOINT)
        continued = read_checkpoint(continued_checkpoint(config.train_dir))
        steps = continued.manifest.progress.schedule_step
        findings = compare(config, prepared, continued.manifest)
        if (damage := damage_of(*served) or damage_of(*continued)) is not None:
            files = Finding(
                kind="impossible", what="files", before="whole", after="damaged", why=damage
            )
            findings.append(files)
    verdict = _verdict(done, findings)
    unfinished = _unfinished(config, prepared, done)
    return Diagnosis(
        verdict=verdict,
        findings=tuple(findings),
        action=_action(config, prepared, done, verdict, unfinished),
        steps=steps,
        unfinished=unfinished,
    )


def print_diagnosis(diagnosis: Diagnosis, console: Console) -> None:
    """Prints a diagnosis, with what does not fit first."""
    order = ("impossible", "resized", "changed", "fits")
    for finding in sorted(diagnosis.findings, key=lambda finding: order.index(finding.kind)):
        console.print(finding.sentence(), markup=False, highlight=False, soft_wrap=True)
    unfinished = diagnosis.unfinished
    if unfinished is not None:
        fate = "would be resumed" if unfinished.goes_on else "would be discarded"
        why = "; ".join((*unfinished.differences, *unfinished.damaged))
        console.print(
            f"unfinished training at step {unfinished.step}: {fate}" + (f" ({why})" if why else ""),
            markup=False,
            soft_wrap=True,
        )
    console.print(f"verdict: {diagnosis.verdict}", markup=False, highlight=False)
    console.print(
        f"recsys train: {diagnosis.action}", markup=False, highlight=False, soft_wrap=True
    )


def _verdict(done: TrainManifest | None, findings: list[Finding]) -> Verdict:
    kinds = {finding.kind for finding in findings}
    if done is None:
        return "nothing there"
    if "impossible" in kinds:
        return "impossible"
    return "resizable" if "resized" in kinds else "fits"


def _unfinished(
    config: Config, prepared: Prepared, done: TrainManifest | None
) -> Unfinished | None:
    work_dir = work_dir_of(config)
    identity = work_dir / IDENTITY_FILE
    if not identity.exists():
        return None
    previous = done if config.training.start == "previous" else None
    started_from = previous.fingerprint if previous is not None else None
    expected = training_fingerprint(config, prepared, started_from)
    goes_on = read_object(identity).get("identity") == expected
    damaged: list[str] = []
    latest = latest_checkpoint(work_dir / CHECKPOINTS, damaged.append)
    changed = list(differences(config, latest.manifest.config)) if latest and not goes_on else []
    return Unfinished(
        step=latest.manifest.progress.step if latest is not None else 0,
        goes_on=goes_on,
        differences=tuple(f"{path} was {old} and is {new}" for path, old, new in changed),
        damaged=tuple(damaged),
    )


def _action(
    config: Config,
    prepared: Prepared,
    done: TrainManifest | None,
    verdict: Verdict,
    unfinished: Unfinished | None,
) -> str:
    if prepared.features != config.features:
        return "fails, as the data was prepared with other features; run `recsys prepare`"
    if prepared.manifest.data.repeats != config.data.repeats:
        return "fails, as the data was prepared with another data.repeats; run `recsys prepare`"
    if done is not None and is_up_to_date(config, prepared, done):
        return "nothing, as this training is done"
    begins = "begins from scratch"
    if config.training.start == "previous" and done is not None:
        if verdict == "impossible":
            return "fails, as the model cannot be continued; set training.start: scratch"
        begins = f"begins with the model of {config.train_dir}"
    if unfinished is not None and unfinished.goes_on and unfinished.step:
        return f"resumes the unfinished training from step {unfinished.step}"
    there = "; the model that is there stays until it is done" if done is not None else ""
    return begins + there
