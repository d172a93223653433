"""Document that `recsys init` writes: its sections, and the reason for each choice."""

import re
from dataclasses import dataclass
from typing import Any

from feature_store.core.settings import Settings
from feature_store.kinds import AnyFeature
from pipelines.logs.clock import UNIT_NAMES
from pipelines.logs.sampling import ParquetTable
from pipelines.profile.events import EventsProfile
from pipelines.reports.words import plural_of
from pipelines.settings import GivenSplit, TimeSplit
from recsys.autoconfig import rules
from recsys.autoconfig.columns.roles import Roles
from recsys.autoconfig.context import ContextChoice
from recsys.autoconfig.features import Choice, features_of
from recsys.autoconfig.positives import Positives, column_entries, data_entries
from recsys.autoconfig.repeats import RepeatsChoice
from recsys.autoconfig.split import SplitChoice
from recsys.config.evaluation import EvaluationConfig
from recsys.config.loss import LossConfig
from recsys.config.model import ModelConfig
from recsys.config.ssl.contrastive import Neighbours
from recsys.config.training import TrainingConfig
from recsys.config.yaml_writer import Entry, Note, Proposal, Row, Section, Setting, scalar


@dataclass(frozen=True)
class Findings:
    """Figures and choices about a log, from which the document is written.

    Args:
        name: Name of the data, for the output and the experiment.
        paths: Paths of events, items and queries, relative to the configuration.
        context: Proposed context features, and columns that must be none.
        unlisted: Share of events whose item the table of items lacks.
        repeated_ids: Number of rows of items and of queries that repeat an id.
        repeats: Whether items that a query has had are ranked for it.
        positives: Columns that separate positives from other events.
        bookkeeping: Columns of each table that describe rows, and the reason for each.
        gpus: Number of GPUs of this machine.
        word: Word of the log for a query.
    """

    name: str
    paths: dict[str, str]
    events: ParquetTable
    items: ParquetTable | None
    queries: ParquetTable | None
    roles: Roles
    profile: EventsProfile
    split: SplitChoice
    item_choices: list[Choice]
    query_choices: list[Choice]
    context: ContextChoice
    size: rules.Size
    unlisted: float
    repeated_ids: dict[str, int]
    repeats: RepeatsChoice
    positives: Positives
    bookkeeping: dict[str, dict[str, str]]
    gpus: int
    word: str


def document(found: Findings) -> list[Entry]:
    """Returns the entries of the whole document, from top to bottom."""
    return [
        *_header(found),
        Setting("output", f"runs/{found.name}", "directory that the stages write to"),
        Note(),
        Section("data", _data(found)),
        Note(),
        Section("features", _features(found)),
        Note(),
        Section("model", _model(found)),
        Note(),
        Section("loss", _loss(found)),
        Note(),
        Section("ssl", _ssl(found)),
        Note(),
        Section("training", _training(found)),
        Note(),
        Section("evaluation", _evaluation(found.size)),
        Note(),
        Section("tracking", [Setting("experiment", found.name, "experiment in MLflow")]),
    ]


def _header(found: Findings) -> list[Entry]:
    profile = found.profile
    is_sample = profile.read < profile.rows
    text = (
        "Written by `recsys init`, with the figures that led to each choice. Edit it freely, or "
        "override a value for one command: --set training.epochs=3"
    )
    figures = (
        f"{profile.rows:,} events of {'at least ' if is_sample else ''}{profile.queries:,} "
        f"{plural_of(found.word)} and {profile.items:,} items."
    )
    if is_sample:
        figures += f" Figures are estimates from {profile.read:,} events, spread over the files."
    return [Note(text), Note(figures), Note()]


def _data(found: Findings) -> list[Entry]:
    split = found.split
    return [
        Setting("events", found.paths["events"], _files(found.events)),
        _table(found, "items", found.items),
        _table(found, "queries", found.queries),
        Section("columns", _columns(found)),
        *data_entries(found.positives),
        Note(" ".join(split.why)),
        Section("split", _split(split)),
        Section(
            "history",
            [
                Setting("kind", split.history.kind, _why_history(split)),
                Setting("max_length", split.history.max_length, split.why_history),
            ],
        ),
        Setting("repeats", found.repeats.repeats, found.repeats.why),
    ]


def _files(table: ParquetTable) -> str:
    rows = f"{'' if table.rows_are_exact else 'about '}{table.rows:,} rows"
    return f"{rows} in {table.files:,} files" if table.files > 1 else rows


def _table(found: Findings, what: str, table: ParquetTable | None) -> Setting:
    if table is None:
        return Setting(what, None, f"{what} are those of the events, without features")
    repeated = found.repeated_ids.get(what, 0)
    why = _files(table) + (f"; {repeated:,} repeat an id" if repeated else "")
    return Setting(what, found.paths[what], why)


def _columns(found: Findings) -> list[Entry]:
    roles = found.roles
    entries: list[Entry] = [
        Setting("query_id", roles.query, roles.guesses.get("query", "")),
        Setting("item_id", roles.item, roles.guesses.get("item", "")),
    ]
    for key, name, table in (
        ("query_key", roles.query_key, "queries"),
        ("item_key", roles.item_key, "items"),
    ):
        if name is not None:
            entries.append(Setting(key, name, f"column of {table} with these ids"))
    entries += _timestamp(found)
    entries += column_entries(found.positives)
    if roles.weight is not None:
        entries.append(Setting("weight", roles.weight, "weight of an example in the main loss"))
    known = roles.columns | set(found.positives.columns)
    unused = [name for name in found.events.schema.names if name not in known]
    if unused:
        entries.append(Note(f"Not read: {', '.join(map(scalar, unused))}."))
    return entries


def _timestamp(found: Findings) -> list[Entry]:
    name, used = found.roles.timestamp, found.split.timestamp
    guess = found.roles.guesses.get("timestamp", "")
    if used is None:
        why = guess or "no column holds times"
        if name is not None:
            why = f"the column {scalar(name)} means nothing, see split"
        return [Setting("timestamp", None, why)]
    unit = found.roles.clock.unit
    if unit is None:
        return [Setting("timestamp", used, guess or str(found.events.schema.field(used).type))]
    why = UNIT_NAMES[unit] if _has_clock(found) else "unknown: these are not dates"
    return [Setting("timestamp", used, guess), Setting("timestamp_unit", unit, why)]


def _has_clock(found: Findings) -> bool:
    return found.profile.time is not None and found.profile.time.clock is not None


def _split(split: SplitChoice) -> list[Entry]:
    why = {
        "leave_last_out": "a query's last event is for test, the one before it for validation",
        "random_hash": "by a hash of both ids: 10 % for test, 10 % for validation",
    }.get(split.split.kind, "")
    entries: list[Entry] = [Setting("kind", split.split.kind, why)]
    if isinstance(split.split, TimeSplit):
        end = "which ends with the last event, or at `--as-of`: the split moves with the log"
        entries.append(Setting("validation", split.split.validation, "before the test"))
        entries.append(Setting("test", split.split.test, end))
    if isinstance(split.split, GivenSplit):
        entries.append(Setting("column", split.split.column))
    return entries


def _why_history(split: SplitChoice) -> str:
    if split.history.kind == "past":
        return "an example sees the events before its own"
    return "an example sees the query's other training events"


def _features(found: Findings) -> list[Entry]:
    smallest, largest = rules.SMALLEST_DIM, rules.LARGEST_DIM
    rule = (
        f"dim is about 6 x (distinct values)^(1/4), between {smallest} and {largest} (item id: "
        f"{rules.SMALLEST_ITEM_ID_DIM} and {largest}). With min_count, rarer values share one row. "
        "Lists are read as sets; kind: sequence reads one in order, the oldest value first."
    )
    notes: list[Entry] = [Note(rule)]
    large = [t for t in (found.items, found.queries) if t is not None and t.is_large]
    if large:
        names = " and ".join(table.what for table in large)
        notes.append(Note(f"Figures of {names} are estimates from a sample of rows."))
    return [
        *notes,
        *_side("item", found.item_choices),
        *_side("query", found.query_choices),
        *_context(found),
    ]


def _side(side: str, choices: list[Choice]) -> list[Entry]:
    rows: list[Entry] = [
        Row(_values(choice.feature), choice.why) for choice in choices if choice.feature is not None
    ]
    left_out: list[Entry] = [
        Note(f"{scalar(choice.name)} is left out: {choice.why}")
        for choice in choices
        if choice.feature is None
    ]
    if not rows:  # An empty list has its comments above it: nothing may follow it.
        return [*left_out, Setting(side, [])]
    return [Section(side, [*rows, *left_out])]


def _context(found: Findings) -> list[Entry]:
    """Proposes a context as comments, for only the reader knows what is known beforehand."""
    notes = _no_context(found.context)
    if not found.context.proposed:
        return notes
    text = (
        "The context of an event can also be a feature, if it is known at the moment of the "
        "request: a device, the hour. Never use what is known only afterwards (a rating, a "
        "purchase, the seconds watched): it would tell the model the answer. A position is used in "
        "training alone. To use a context, uncomment these lines and keep those that are known at "
        "that moment:"
    )
    rows = [Row(_values(proposed.feature), proposed.why) for proposed in found.context.proposed]
    return [Note(text), Proposal([Section("context", rows)]), *notes]


def _no_context(context: ContextChoice) -> list[Entry]:
    reasons = {
        "known only afterwards": context.outcomes,
        "the same in all events of an item, so it would tell the item": context.of_items,
    }
    return [
        Note(f"No context is {', '.join(map(scalar, names))}: {reason}.")
        for reason, names in reasons.items()
        if names
    ]


def _values(feature: AnyFeature) -> dict[str, Any]:
    rest = {key: getattr(feature, key) for key in type(feature).model_fields}
    head = {key: rest.pop(key) for key in ("name", "kind", "dim")}
    return head | {key: value for key, value in rest.items() if key in feature.model_fields_set}


def _model(found: Findings) -> list[Entry]:
    size, kind = found.size, found.split.history.kind
    tower = rules.tower(size)
    encoders: list[Entry] = [Row({"kind": "mean"}, "mean of a history's items")]
    if kind == "past":
        encoders.append(Row({"kind": "last"}, "last item of a history"))
    return [
        Setting(
            "dim",
            rules.model_dim(size),
            f"length of query and item vectors, for {size.items:,} items",
        ),
        _described(ModelConfig, "item_tower", tower),
        _described(ModelConfig, "query_tower", tower),
        _described(ModelConfig, "residual", True),
        Section("history", encoders),
        Setting(
            "dropout", rules.dropout(size), f"for about {size.training_events:,} training events"
        ),
    ]


def _loss(found: Findings) -> list[Entry]:
    loss, others = LossConfig(), found.split.history.kind == "others"
    id_dropout = rules.id_dropout(len(features_of(found.item_choices)))
    temperature = rules.TEMPERATURE_OF_OTHERS if others else loss.temperature
    return [
        Setting("temperature", temperature, "lower is sharper; tune it first"),
        Setting(
            "candidates", {"kind": "mixed"}, "items of the batch, and as many drawn from all items"
        ),
        Setting("logq", {"strength": loss.logq.strength}, "lower finds more of the tail"),
        _described(LossConfig, "id_dropout", id_dropout)
        if id_dropout
        else Setting("id_dropout", id_dropout, "items have only their id"),
        _described(
            LossConfig,
            "history_dropout",
            rules.OTHERS_HISTORY_DROPOUT if others else loss.history_dropout,
        ),
    ]


def _ssl(found: Findings) -> list[Entry]:
    if len(features_of(found.item_choices)) < 2:
        return [Setting("method", "none", "items have but one feature")]
    ssl = Neighbours()
    return [
        Setting(
            "method",
            ssl.method,
            "an item and one near it are alike; cfm masks correlated features; or none",
        ),
        Setting(
            "alpha",
            ssl.alpha,
            "weight in the loss; with few events, 1 may find more of the tail",
        ),
        _described(Neighbours, "temperature", ssl.temperature),
        _described(Neighbours, "id_dropout", ssl.id_dropout),
    ]


def _training(found: Findings) -> list[Entry]:
    size = found.size
    sparse, dense = rules.learning_rates(size)
    return [
        _launcher(found.gpus),
        *(
            _described(TrainingConfig, key, value)
            for key, value in {
                "batch_size": rules.batch_size(size),
                "epochs": rules.epochs(size),
                **_validations(size),
                "patience": rules.patience(size),
                "sparse_learning_rate": sparse,
                "dense_learning_rate": dense,
                "weight_decay": rules.weight_decay(size),
                "averaging": rules.AVERAGING,
            }.items()
        ),
        *_nightly(found),
    ]


def _nightly(found: Findings) -> list[Entry]:
    """Proposes to go on from the champion where the split moves with the log."""
    if not isinstance(found.split.split, TimeSplit):
        return []
    text = (
        "A job that trains every night (recsys run --as-of) can go on from the champion, with the "
        "new events and as many older ones. In a simulated month (docs/operations.md) that found "
        "more of the next day than training from scratch, at less cost. While you try settings "
        "out, let each training begin from scratch, so that they can be compared; then uncomment "
        "these lines:"
    )
    replay = Setting("replay", rules.REPLAY, "part of older events; 0: new ones alone")
    return [Note(text), Proposal([Setting("start", "previous", "the champion's model"), replay])]


def _validations(size: rules.Size) -> dict[str, int]:
    often = rules.validations_per_epoch(size)
    return {"validations_per_epoch": often} if often > 1 else {}


def _launcher(gpus: int) -> Setting:
    """Returns how the ranks are started: one process uses all cores better than several do."""
    if gpus > 1:
        return Setting("ray", {"workers": gpus}, f"a worker for each of the {gpus} GPUs")
    device = "the GPU" if gpus else "all cores"
    why = f"this process trains, with {device}; for more GPUs or machines: {{workers: 2}}"
    return Setting("ray", None, why)


def _evaluation(size: rules.Size) -> list[Entry]:
    select_by, cutoffs = rules.select_by(size), rules.cutoffs(size)
    defaults = EvaluationConfig()
    entries: list[Entry] = [_described(EvaluationConfig, "select_by", select_by)]
    if select_by != defaults.select_by:
        why = f"{defaults.select_by} can hardly differ with {size.items:,} items"
        entries = [Setting("select_by", select_by, f"validation metric of the selection; {why}")]
    if cutoffs != defaults.cutoffs:
        why = f"with {size.items:,} items, the first ranks tell most"
        entries.append(Setting("cutoffs", list(cutoffs), why))
    return entries


def _described(section: type[Settings], key: str, value: Any) -> Setting:
    """Returns a value with the beginning of its description in `recsys/config` as the comment."""
    description = section.model_fields[key].description
    assert description is not None
    beginning = re.split(r"[.;:] |\.$", description)[0]
    return Setting(key, value, beginning[0].lower() + beginning[1:])
