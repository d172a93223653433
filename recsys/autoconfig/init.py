"""`recsys init`: profiles a log and writes a configuration that fits it, with the reasons."""

import os
from functools import partial
from pathlib import Path

import pyarrow.compute as pc
from rich.console import Console

from feature_store.core.arrow import id_strings
from feature_store.core.errors import UserError
from feature_store.core.files import write_text
from pipelines.logs.sampling import ParquetTable, open_table
from pipelines.profile.events import EventsProfile, profile_events
from pipelines.reports.words import reworded, word_of
from pipelines.urls import is_url
from recsys.autoconfig import rules
from recsys.autoconfig.columns.bookkeeping import bookkeeping
from recsys.autoconfig.columns.roles import Roles, Wanted, find_roles
from recsys.autoconfig.columns.times import WantedTime
from recsys.autoconfig.columns.wanted import Problems, WantedIds
from recsys.autoconfig.context import propose_context
from recsys.autoconfig.coverage import unlisted_share
from recsys.autoconfig.data_name import data_name
from recsys.autoconfig.document import Findings, document
from recsys.autoconfig.features import Choice, choose_features, id_choice
from recsys.autoconfig.figures import number
from recsys.autoconfig.machine import count_gpus
from recsys.autoconfig.positives import find_positives
from recsys.autoconfig.repeats import choose_repeats
from recsys.autoconfig.sentences import sentences
from recsys.autoconfig.sharing import queries_are_items, sharing
from recsys.autoconfig.split import SplitChoice, WantedSplit, choose_split
from recsys.config.config import Config
from recsys.config.load import load_config, parse_config
from recsys.config.yaml_reader import parse_yaml
from recsys.config.yaml_writer import render

# Splits under which every query that is tested has been trained on.
_SPLITS_OF_KNOWN_QUERIES = ("leave_last_out", "random_hash")


def init_config(
    events: str,
    items: str | None,
    queries: str | None,
    output: Path,
    *,
    split: WantedSplit | None = None,
    query_column: str | None = None,
    item_column: str | None = None,
    timestamp: str | None = None,
    timestamp_unit: str | None = None,
    queries_id: str | None = None,
    items_id: str | None = None,
    overwrite: bool = False,
    console: Console | None = None,
) -> Config:
    """Writes a commented configuration for a log.

    Args:
        events: Parquet file, directory, glob or URL.
        items: Parquet of items and their features, if there is any.
        queries: Parquet of queries and their features, if there is any.
        output: YAML file to write; paths in it are relative to its directory.
        split: Split in place of the one that the evidence suggests.
        query_column: Column of the events with query ids in place of the one that is found.
        item_column: Column of the events with item ids, likewise.
        timestamp: Column of times, likewise.
        timestamp_unit: Meaning of its values in place of the one that is recognised.
        queries_id: Column of the queries with their ids in place of the one that is found.
        items_id: Column of the items with their ids, likewise.
        overwrite: Whether an existing file is replaced.
        console: Console for what is not read or was guessed; None: nothing is printed.

    Returns:
        The configuration, as `load_config` reads it.

    Raises:
        UserError: The output exists, tables cannot be read, no column can be an id, a column that
            is given is none, or the split does not fit the log.
    """
    if output.is_dir():
        raise UserError(f"{output} is a directory; expected the name of a YAML file to write.")
    if output.exists() and not overwrite:
        raise UserError(
            f"{output} exists; give another name, or allow it to be overwritten (--overwrite)."
        )
    if any(path is not None and _is_same(path, output) for path in (events, items, queries)):
        raise UserError(f"{output} is one of the tables to read; give another name.")
    ids = WantedIds(query_column, item_column, queries_id, items_id)
    wanted = Wanted(ids, WantedTime.of(timestamp, timestamp_unit))
    found = find_out(events, items, queries, output.parent, split, wanted)
    text = render(document(found))
    parse_config(parse_yaml(text), source=str(output))
    write_text(output, text)
    if console is not None:
        for sentence in sentences(found):
            said = reworded(sentence, found.word)
            console.print(f"init: {said}", markup=False, highlight=False, soft_wrap=True)
    return load_config(output)


def _is_same(path: str, output: Path) -> bool:
    return os.path.exists(path) and output.exists() and os.path.samefile(path, output)


def find_out(
    events: str,
    items: str | None,
    queries: str | None,
    directory: Path,
    wanted_split: WantedSplit | None = None,
    wanted: Wanted | None = None,
) -> Findings:
    """Profiles the log and chooses all that the configuration holds.

    Args:
        events: Parquet file, directory, glob or URL.
        items: Parquet of items, if there is any.
        queries: Parquet of queries, if there is any.
        directory: Directory that the configuration will be in.
        wanted_split: Split in place of the one that the evidence suggests.
        wanted: Columns in place of those that are found.
    """
    paths = {"events": events, "items": items, "queries": queries}
    problems = Problems()
    events_table, items_table, queries_table = (
        problems.attempt(partial(open_table, path, what)) if path is not None else None
        for what, path in paths.items()
    )
    problems.refuse()
    assert events_table is not None
    aside = {
        table.what: bookkeeping(table)
        for table in (events_table, items_table, queries_table)
        if table is not None
    }
    roles = find_roles(events_table, items_table, queries_table, aside["events"], wanted)
    aside = {what: _without(columns, roles) for what, columns in aside.items()}
    positives = find_positives(events_table, roles, aside["events"])
    profile = profile_events(
        events_table,
        roles.query,
        roles.item,
        roles.timestamp,
        roles.clock,
        (positives.columns, positives.mask) if positives.columns else None,
    )
    if not profile.read:
        empty = [
            name
            for name in (roles.query, roles.item)
            if id_strings(events_table.read(name)[0]).null_count == events_table.rows
        ]
        which = f" ({' and '.join(map(repr, empty))} has none at all)" if empty else ""
        raise UserError(
            f"events: no row has both {roles.query!r} and {roles.item!r}{which}; expected ids in "
            "both: text, in UTF-8 if it is bytes, or whole numbers."
        )
    split = choose_split(profile, roles, wanted_split)
    corpus = max(profile.items, items_table.rows if items_table is not None else 0)
    item_choices = _item_choices(items_table, roles, corpus, aside.get("items", {}))
    query_choices = _query_choices(queries_table, roles, profile, split, aside.get("queries", {}))
    no_evidence = {*aside.get("items", {}), *aside.get("queries", {})}
    figure = queries_are_items(events_table, items_table, queries_table, roles, no_evidence)
    if figure is not None:
        query_choices = sharing(item_choices, query_choices, roles, figure)
    return Findings(
        name=data_name(events),
        paths={what: relative_path(p, directory) for what, p in paths.items() if p is not None},
        events=events_table,
        items=items_table,
        queries=queries_table,
        roles=roles,
        profile=profile,
        split=split,
        item_choices=item_choices,
        query_choices=query_choices,
        context=propose_context(
            events_table, roles, profile, split, {*aside["events"], *positives.columns}
        ),
        bookkeeping=aside,
        gpus=count_gpus(),
        word=word_of(roles.query, is_item=figure is not None),
        size=rules.Size(
            profile.rows,
            split.training_events,
            split.validation_events,
            items=corpus,
            single_visits=profile.has_single_visits,
        ),
        unlisted=unlisted_share(events_table, items_table, roles),
        repeated_ids={
            table.what: _repeats(table, column)
            for table, column in (
                (items_table, roles.key_of("item")),
                (queries_table, roles.key_of("query")),
            )
            if table is not None
        },
        repeats=choose_repeats(profile, split),
        positives=positives,
    )


def _without(columns: dict[str, str], roles: Roles) -> dict[str, str]:
    """Leaves out the columns that have a role."""
    return {name: reason for name, reason in columns.items() if name not in roles.columns}


def _item_choices(
    table: ParquetTable | None, roles: Roles, corpus: int, bookkeeping: dict[str, str]
) -> list[Choice]:
    own = id_choice(roles.item, corpus, f"{corpus:,} items", rules.SMALLEST_ITEM_ID_DIM)
    if table is None:
        return [own]
    return [own, *choose_features(table, roles.key_of("item"), bookkeeping)]


def _query_choices(
    table: ParquetTable | None,
    roles: Roles,
    profile: EventsProfile,
    split: SplitChoice,
    bookkeeping: dict[str, str],
) -> list[Choice]:
    column = roles.query
    rest = []
    if table is not None:
        rest = choose_features(table, roles.key_of("query"), bookkeeping)
    each = split.training_events_per_query
    if split.split.kind not in _SPLITS_OF_KNOWN_QUERIES:
        why = "test queries may be new, and a query's history describes it"
        return [*rest, Choice(column, None, why)]
    if each is None:
        return [*rest, Choice(column, None, "the number of events of a query is unknown")]
    figure = f"{number(round(each, 1))} training events each (median)"
    if each < rules.QUERY_ID_EVENTS_FROM:
        why = f"{figure} are too few to learn it, and a query's history describes it"
        return [*rest, Choice(column, None, why)]
    rows = max(profile.queries, table.rows if table is not None else 0)
    return [id_choice(column, rows, f"{figure}, {rows:,} queries"), *rest]


def _repeats(table: ParquetTable, column: str) -> int:
    ids = id_strings(table.read(column)[0].drop_null())
    return len(ids) - len(pc.unique(ids))


def relative_path(path: str, directory: Path) -> str:
    """Returns a path as seen from a directory; a URL stays as it is."""
    if is_url(path):
        return path
    lexical = os.path.relpath(path, directory)
    physical = os.path.realpath(directory)
    if os.path.realpath(os.path.join(physical, lexical)) == os.path.realpath(path):
        return lexical
    # `..` leads out of what a link points to, not out of the directory that holds the link.
    return os.path.relpath(os.path.abspath(path), physical)
