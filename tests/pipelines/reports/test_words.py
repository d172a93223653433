"""A query is called what its log calls it, where people read."""

import pytest

from pipelines.reports.html import render_page
from pipelines.reports.opening import Check, Checks, Judged, Verdict
from pipelines.reports.parts import Chart, Code, Entry, Facts, Page, Row, Section, Table, Text
from pipelines.reports.plots import Axis, Bars, Graph, Series
from pipelines.reports.words import (
    explained,
    pieces,
    plural_of,
    reworded,
    reworded_page,
    word_of,
)


@pytest.mark.parametrize(
    ("column", "word"),
    [
        ("user_id", "user"),
        ("userId", "user"),
        ("USER", "user"),
        ("event.visitor.id", "visitor"),
        ("users", "user"),
        ("sessionID", "session"),
        ("person_key", "person"),
        ("query_id", "user"),
        ("uid", "user"),
        ("userid", "user"),
        ("CUSTOMERID", "customer"),
        ("sid", "session"),
        ("query", "query"),
        ("search_query_id", "query"),
        ("asin", "query"),
        ("", "query"),
    ],
)
def test_the_word_is_that_of_the_column_of_ids(column, word):
    assert word_of(column) == word


def test_queries_that_are_items_are_no_users():
    assert word_of("query_id", is_item=True) == "query"
    assert word_of("user_id", is_item=True) == "user"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("943 queries, each query once. Queries: 3", "943 users, each user once. Users: 3"),
        ("a query's items; query-level", "a user's items; query-level"),
        ("`recsys query BUNDLE`, recsys query, --query-id, data.queries, query.country, query_id",)
        * 2,
        ("queries/features.arrow and `query`",) * 2,
        ("of these queries.", "of these users."),
    ],
)
def test_sentences_are_reworded_but_no_commands_and_keys(text, said):
    assert reworded(text, "user") == said
    assert reworded(text, "query") == text


def test_plurals_and_explanations():
    assert (plural_of("query"), plural_of("user"), plural_of("person")) == (
        "queries",
        "users",
        "people",
    )
    assert explained("query") == ""
    assert explained("user") == "A user is what the configuration calls a query."


def a_page(query):
    """Returns a page that has `query` in every place, among them a title of an item."""
    title = "The Query (film)"
    verdict = Verdict("better", "Better for queries.", [Judged("all", "better", "by queries")], "q")
    table = Table(
        "Query 7", ["Query", "Queries"], [Row(["Queries", title])], note="Means over queries."
    )
    graph = Graph([Series("a", [(0, 1.0)], labels=[title])], Axis("queries"), Axis())
    entry = Entry(f"Query 7: finds {title}", [Text("of the query"), Code("query: 1")])
    parts = [
        Entry(f"Items like {title}", []),
        Text("Each query."),
        Facts([("Queries", title)]),
        table,
        Chart("By query", "Of queries.", graph, table),
        Chart("Bars", "", Bars(["x"], {"a": [1.0]}, "mean over queries")),
        entry,
    ]
    checks = Checks([Check("Leaks", "passes", "No query.")])
    return Page(
        "Queries", "5 queries.", [Section("s", "Queries", parts)], (), [verdict, checks], query
    )


def test_a_page_is_in_the_words_of_its_log_but_for_titles_and_code():
    said = str(reworded_page(a_page("user")))
    assert said.count("The Query (film)") == str(a_page("query")).count("The Query (film)")
    left = said.replace("The Query (film)", "").replace("query: 1", "").replace("calls a query", "")
    left = left.replace("query='user'", "")
    assert "quer" not in left.lower()
    assert reworded_page(a_page("query")) == a_page("query")
    html = render_page(a_page("user"))
    assert "5 users. A user is what the configuration calls a query." in html
    assert "calls a query" not in render_page(a_page("query"))


def test_what_is_between_backticks_is_code():
    assert pieces("Run `a < b`, then `c`.") == [
        ("Run ", False),
        ("a < b", True),
        (", then ", False),
        ("c", True),
        (".", False),
    ]
    assert pieces("a lone ` says nothing") == [("a lone ` says nothing", False)]
    shown = render_page(a_page("query"))
    assert "`" not in shown.partition("<main>")[2].partition("<pre")[0]


def test_titles_of_entries_and_tables_have_the_word_but_no_names_of_items():
    titles = ("48 more queries", "Items like The Query (film)", "Events, and items of a query")
    parts = [Entry(title, [Table(title, ["Query"], [["1"]])]) for title in titles]
    (section,) = reworded_page(Page("P", "L", [Section("s", "S", parts)], query="user")).sections
    found = [part.title for part in section.parts]
    assert found == ["48 more users", "Items like The Query (film)", "Events, and items of a user"]
