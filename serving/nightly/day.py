"""The work of one day, from the files of the log to an outcome."""

from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from feature_store.core.errors import UserError
from feature_store.core.locks import reading
from feature_store.core.manifests import read_manifest
from feature_store.core.times import as_utc
from pipelines.prepared.manifest import PreparedManifest
from pipelines.prepared.reader import Prepared
from pipelines.quality.quality import read_quality
from pipelines.reports.html import render_page
from pipelines.settings import TimeSplit
from recsys.checkpoint.training_manifest import TrainManifest, readable_training
from recsys.config.config import Config
from recsys.stages.evaluate import evaluate
from recsys.stages.train import train
from recsys.tracking import code_version, registered_name
from serving.bundle.manifest import BundleManifest
from serving.exporting.champion import Judgement, judge
from serving.exporting.export import export
from serving.exporting.gate import GateError
from serving.nightly.adopt import adopt, trained_to
from serving.nightly.champion import evaluate_champion
from serving.nightly.days import Days, day_name
from serving.nightly.news import News, require_past
from serving.nightly.outcome import Outcome
from serving.nightly.page import day_page
from serving.nightly.start import begin
from serving.nightly.worse import better_but_kept, why_worse
from serving.registry.registry import (
    CHAMPION,
    champion_manifest,
    current_seals,
    promote_if_passed,
    version_of_seal,
)

_FUTURE = "events: future timestamp"


class Day:
    """The work of one day.

    Args:
        config: Configuration of the system.
        as_of: Time after which events do not count.
        days: Directories of the days.
        console: Console to show progress on.
        held: Context in which no other command replaces the day's model.
    """

    def __init__(
        self, config: Config, as_of: datetime, days: Days, console: Console, held: ExitStack
    ) -> None:
        self._config = config
        self._held = held
        self._as_of = as_of
        self._days = days
        self._console = console
        self._sources: set[str] = set()
        self._judged: Judgement | None = None
        self._prepared: str | None = None
        self._facts: dict[str, Any] = {}
        self._finished: list[Outcome] = []
        self._why_not_judged = ""

    def _say(self, sentence: str) -> None:
        self._console.print(f"job: {sentence}", highlight=False, soft_wrap=True)

    def outcome(self, kind: Any, reason: str, **facts: Any) -> Outcome:
        """Returns an outcome with all that is known of the day."""
        return Outcome(
            date=day_name(self._as_of),
            as_of=self._as_of.isoformat(),
            outcome=kind,
            reason=reason,
            model=registered_name(self._config),
            metric=self._config.evaluation.select_by,
            git_commit=code_version().get("mlflow.source.git.commit"),
            **{**self._facts, **facts},
        )

    def write(self, outcome: Outcome) -> None:
        """Keeps the day with its page."""
        quality = None
        if self._prepared is not None:
            if outcome.is_final:
                self._require_same_data()
            quality = read_quality(self._config.prepared_dir)
        page = render_page(day_page(outcome, self._judged, quality))
        self._days.write(outcome, self._sources, page, is_compared=self._judged is not None)

    def refused(self, reason: str) -> Outcome:
        """Returns the outcome of a day whose log is refused."""
        self._say(f"the champion stays: {reason}")
        return self.outcome("refused", reason, champion=self._champion_version())

    def run(self) -> Outcome:
        """Runs the stages as far as they are needed."""
        config = self._config
        finished = self._finished = self._days.finished()
        if finished and finished[-1].as_of > self._as_of.isoformat():
            return self.outcome(
                "nothing new",
                f"the later day {finished[-1].date} is finished already: days are done in order",
                champion=self._champion_version(),
            )
        champion = champion_manifest(config)
        if champion is not None:
            adopt(config, self._days, champion, self._as_of)
            self._facts["champion_age_days"] = self._days_since(champion)
        self._facts["better_but_kept"] = better_but_kept(finished, self._champion_version())
        before = read_manifest(config.prepared_dir, PreparedManifest)
        last = finished[-1] if finished else None
        news = News(config, self._days, day_name(self._as_of), last)
        self._sources = news.read
        if last is not None and news.is_nothing and not may_have_later(before, last):
            require_past(self._as_of, last.last_event)
            return self._nothing_new(last)
        prepared = news.prepare(self._as_of, self._console)
        self._prepared = prepared.fingerprint
        require_past(self._as_of, prepared.last_event)
        self._sources = news.read
        counts = prepared.counts
        self._facts |= {
            "new_files": news.new,
            "passed_over": len(prepared.passed_over),
            "events": counts.train + counts.validation + counts.test,
            "last_event": prepared.last_event,
            "trained_to": trained_to(prepared),
        }
        mark = (self._facts["events"], prepared.last_event)
        if last is not None and mark == (last.events, last.last_event):
            return self._nothing_new(last)
        if champion is not None and self._is_todays(champion, prepared):
            return self._with_model(config, champion, champion.training_fingerprint)
        found = self._days.of_seal(champion.seal) if champion is not None else None
        day = found[0] if found is not None else None
        config = begin(config, day, finished, self._as_of, self._say)
        trained = train(config, console=self._console)
        return self._with_model(config, champion, trained.fingerprint)

    def _require_same_data(self) -> None:
        """Refuses to go on where another command has prepared other data in between."""
        directory, now = self._config.prepared_dir, None
        with suppress(UserError):
            now = read_manifest(directory, PreparedManifest)
        if now is None or now.fingerprint != self._prepared:
            raise UserError(
                f"another command has prepared {directory} meanwhile; call the job again for "
                f"{day_name(self._as_of)}."
            )

    def _nothing_new(self, last: Outcome) -> Outcome:
        self._facts |= {"events": last.events, "last_event": last.last_event}
        champion = self._champion_version()  # Another command may have changed it since.
        return self.outcome("nothing new", f"no event came since {last.date}", champion=champion)

    def _is_todays(self, champion: BundleManifest, prepared: PreparedManifest) -> bool:
        """Returns whether a call that was killed has promoted the model of this day."""
        trained = readable_training(self._config.train_dir)
        return (
            trained is not None
            and trained.fingerprint == champion.training_fingerprint
            and trained.prepared_fingerprint == prepared.fingerprint
        )

    def _with_model(
        self, config: Config, champion: BundleManifest | None, fingerprint: str
    ) -> Outcome:
        """Evaluates the trained model, compares it and, unless it is worse, serves it."""
        console = self._console
        self._held.enter_context(reading(config.train_dir))
        self._require_same_data()
        trained = read_manifest(config.train_dir, TrainManifest)
        if trained is None or trained.fingerprint != fingerprint:
            raise UserError(
                f"another command has trained {config.train_dir} anew meanwhile; call the job "
                f"again for {day_name(self._as_of)}."
            )
        evaluation = evaluate(config, console=console)
        metric = evaluation.overall.get(config.evaluation.select_by)
        self._facts |= {
            "mlflow_run_id": trained.mlflow_run_id,
            "started_from": "scratch" if trained.started_from is None else "champion",
            "value": metric if isinstance(metric, float) else None,
        }
        if champion is None and CHAMPION in current_seals(config):
            return self._uncompared("its bundle is of another version's layout")
        if champion is not None and champion.training_fingerprint != trained.fingerprint:
            why = self._evaluate(champion)
            if why is not None:
                return self._uncompared(why)
        judgement = self._judgement(trained)
        self._judged = judgement
        if judgement is not None:
            self._facts["champion_value"] = _overall(judgement)
            if judgement.comparison.is_worse:
                self._facts["better_but_kept"] += judgement.comparison.verdict == "better"
                days, name = self._facts["better_but_kept"], registered_name(config)
                return self._kept(why_worse(judgement, days, name))
        elif champion is not None and champion.training_fingerprint != trained.fingerprint:
            return self._uncompared(self._why_not_judged)
        try:
            bundle = export(config, console=console)
        except GateError as error:
            return self._kept(str(error))
        promote_if_passed(config, bundle)
        version = version_of_seal(config, bundle.seal)
        if current_seals(config).get(CHAMPION) != bundle.seal:
            return self._kept("another command has changed the champion meanwhile")
        reason = "the first model" if judgement is None else f"not worse: {judgement.sentence()}"
        self._facts |= {"champion_age_days": 0, "better_but_kept": 0}
        return self.outcome("promoted", reason, seal=bundle.seal, version=version, champion=version)

    def _judgement(self, trained: TrainManifest) -> Judgement | None:
        """Compares with the champion, or reads how this model was compared before its promotion."""

        def note(why: str) -> None:
            self._why_not_judged = why

        judgement = judge(self._config, trained, note)
        if judgement is None:
            judgement = read_manifest(self._config.comparison_dir, Judgement)
        is_its = judgement is not None and judgement.training_fingerprint == trained.fingerprint
        return judgement if is_its else None

    def _evaluate(self, champion: BundleManifest) -> str | None:
        """Evaluates the champion on today's held-out items; returns why it cannot be."""
        found = self._days.of_seal(champion.seal)
        if found is None:
            return "its checkpoint is not kept below this output"
        day, outcome = found
        begins = _test_from(Prepared(self._config.prepared_dir).manifest)
        if outcome.trained_to is not None and begins is not None and outcome.trained_to > begins:
            return f"that of {outcome.date} was trained on today's test"
        try:
            evaluate_champion(self._config, day, champion.seal, self._console)
        except UserError as error:
            return str(error).rstrip(".")
        return None

    def _days_since(self, champion: BundleManifest) -> int:
        made = as_utc(datetime.fromisoformat(champion.data_window.as_of))
        return max(0, (self._as_of - made).days)

    def _uncompared(self, why: str) -> Outcome:
        """Returns the outcome of a day whose model cannot take a champion's place."""
        days = 1 + (self._finished[-1].uncompared if self._finished else 0)
        self._facts["uncompared"] = days
        again = f", for {days} days in a row" if days > 1 else ""
        return self._kept(
            f"it cannot be compared{again}: {why}; `recsys run` without --as-of and then `recsys "
            f"promote {registered_name(self._config)}` make a new model the champion without a "
            "comparison"
        )

    def _kept(self, reason: str) -> Outcome:
        self._say(f"the champion stays: {reason}")
        return self.outcome("kept", reason, champion=self._champion_version())

    def _champion_version(self) -> str | None:
        champion = current_seals(self._config).get(CHAMPION)
        return version_of_seal(self._config, champion) if champion is not None else None


def may_have_later(before: PreparedManifest | None, last: Outcome) -> bool:
    """Returns whether files that are known may have events that came after the last finished day.

    What another command has prepared since tells nothing of that day.
    """
    return (
        before is None or before.as_of != last.as_of or before.counts.rejected.get(_FUTURE, 0) > 0
    )


def _test_from(prepared: PreparedManifest) -> str | None:
    split = prepared.data.split
    if not isinstance(split, TimeSplit) or split.test_from is None:
        return None
    return as_utc(split.test_from).astimezone(UTC).isoformat()


def _overall(judgement: Judgement) -> float | None:
    comparison = judgement.comparison
    rows = comparison.rows
    return next(
        r.found.before for r in rows if (r.group, r.metric) == ("overall", comparison.metric)
    )
