"""The report against hand arithmetic, naive loops, bootstrap, and tests whose answer is known."""

import io
import json
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from scipy import stats

from feature_store.core.errors import UserError
from pipelines.reports.html import render_page
from serving.experiment.experiment import (
    Experiment,
    GuardRail,
    Variant,
    read_experiment,
    write_experiment,
)
from serving.experiment.log_rows import EXPOSURE_SCHEMA, OUTCOME_SCHEMA
from serving.experiment.page import ab_page
from serving.experiment.report import ab_report
from serving.experiment.sentences import print_ab_report, sentences, warnings
from serving.experiment.statistics import Estimate, Moments, lift, ratio

NOON = 1_700_000_000_000_000
SECOND, HOUR = 1_000_000, 3_600_000_000


def write_log(directory, shown, happened, split=0.5, guard_rails=(), names="ab"):
    """Writes a log of exposures and events, each a dictionary of values that are not defaults."""
    shares = [1 - split, *[split / (len(names) - 1)] * (len(names) - 1)]
    experiment = Experiment(
        name="e",
        salt="s",
        variants=tuple(
            Variant(name=n, bundle=n, share=s) for n, s in zip(names, shares, strict=True)
        ),
        guard_rails=guard_rails,
        created=datetime.now(UTC),
    )
    write_experiment(directory, experiment)
    answer = {"timestamp": NOON, "request_id": "r", "experiment": "e", "variant": "a"}
    answer |= {"is_override": False, "is_fallback": False, "k": 1, "item_ids": ["x"]}
    answer |= {"scores": [1.0], "model_version": "v", "latency_ms": 1.0}
    event = {"timestamp": NOON + SECOND, "item_id": "x", "event_type": "click", "value": None}
    event |= {"request_id": None}
    write(directory / "exposures", [answer | row for row in shown], EXPOSURE_SCHEMA)
    write(directory / "events", [event | row for row in happened], OUTCOME_SCHEMA)
    return directory


def write(directory, rows, schema):
    """Writes two files, as if by two processes."""
    for part in (0, 1):
        if rows[part::2]:
            path = directory / "date=2023-11-14" / f"part-{part}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.Table.from_pylist(rows[part::2], schema=schema), path)


def lift_of(report, metric, place=0):
    return next(each for each in report.comparisons[place].lifts if each.metric == metric)


def ten_rows():
    """Writes ten exposures and ten events, few enough to count by hand."""
    shown = [
        {"query_id": "a1", "item_ids": ["x", "y"], "latency_ms": 10.0},
        {"query_id": "a1", "item_ids": ["y", "z"], "timestamp": NOON + HOUR, "request_id": "r2"},
        {"query_id": "a2", "is_fallback": True},
        {"query_id": "a3"},
        {"query_id": "b1", "variant": "b"},
        {"query_id": "b1", "variant": "b", "timestamp": NOON + 2 * HOUR, "request_id": "r2"},
        {"query_id": "b2", "variant": "b"},
        # Left out: it saw both, and it was a tester's.
        {"query_id": "both"},
        {"query_id": "both", "variant": "b"},
        {"query_id": "tester", "variant": "b", "is_override": True},
    ]
    happened = [
        {"query_id": "a1", "item_id": "x", "value": 2.0},
        # Due to the second answer, which had y, too.
        {"query_id": "a1", "item_id": "y", "timestamp": NOON + 2 * HOUR, "value": 3.0},
        {"query_id": "a1", "item_id": "z", "timestamp": NOON + 2 * HOUR},
        # Before it was recommended, never recommended to it, and too late.
        {"query_id": "a2", "timestamp": NOON - 1, "value": 100.0},
        {"query_id": "a2", "item_id": "z", "value": 100.0},
        {"query_id": "a3", "timestamp": NOON + 24 * HOUR + 1, "value": 100.0},
        # The last moment that counts, of the latest answer.
        {"query_id": "b1", "timestamp": NOON + 26 * HOUR, "event_type": "purchase", "value": 7.0},
        # Events of queries that do not count, or were never answered.
        {"query_id": "both"},
        {"query_id": "tester"},
        {"query_id": "nobody"},
    ]
    return shown, happened


def test_ten_rows_by_hand(tmp_path):
    found = ab_report(write_log(tmp_path, *ten_rows()))
    assert [(s.variant, s.queries, s.answers, s.events) for s in found.samples] == [
        ("a", 3, 4, 3),
        ("b", 2, 3, 1),
    ]
    assert (found.contaminated, found.overridden) == (1, 1)
    values = {each.metric: (each.control, each.treated) for each in found.comparisons[0].lifts}
    assert values == {
        "conversion_rate": pytest.approx((1 / 3, 1 / 2)),
        "events_per_query": pytest.approx((3 / 3, 1 / 2)),
        "value_per_query": pytest.approx((5 / 3, 7 / 2)),
        "hit_rate": pytest.approx((2 / 4, 1 / 3)),
        "fallback_rate": pytest.approx((1 / 4, 0)),
        "latency_p99_ms": pytest.approx((10, 1)),
    }
    rate = lift_of(found, "conversion_rate")
    # Welch's test of (1, 0, 0) and (1, 0): variances 1/3 and 1/2.
    welch = stats.ttest_ind([1, 0], [1, 0, 0], equal_var=False)
    assert rate.p == pytest.approx(welch.pvalue)
    bounds = welch.confidence_interval(0.95)
    assert (rate.absolute.low, rate.absolute.high) == pytest.approx((bounds.low, bounds.high))
    assert rate.relative.value == pytest.approx(0.5)
    assert found.first_exposure == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert found.last_exposure == datetime(2023, 11, 15, 0, 13, 20, tzinfo=UTC)


def test_window_type_and_source_of_events_are_a_choice(tmp_path):
    log = write_log(tmp_path / "log", *ten_rows())
    events = [s.events for s in ab_report(log, window_hours=0.5).samples]
    assert events == [1, 0]
    events = [s.events for s in ab_report(log, event_type="purchase").samples]
    assert events == [0, 1]
    # From a log with other types: integers for ids, and no zone.
    moments = pa.array([(NOON + SECOND) * 1000], pa.timestamp("ns"))
    other = pa.table({"timestamp": moments, "query_id": [5], "item_id": [7]})
    pq.write_table(other, tmp_path / "other.parquet")
    write_log(tmp_path / "log2", [{"query_id": "5", "item_ids": ["7"]}], [{"query_id": "5"}])
    found = ab_report(tmp_path / "log2", events=tmp_path / "other.parquet")
    assert [s.events for s in found.samples] == [1, 0]


def test_events_from_elsewhere_write_their_times_in_any_way(tmp_path):
    log = write_log(tmp_path / "log", [{"query_id": "5", "item_ids": ["7"]}], [])
    foreign = tmp_path / "foreign.parquet"

    def events(timestamp):
        table = {"timestamp": timestamp, "query_id": [5, 5, 5], "item_id": [7, 7, 7]}
        pq.write_table(pa.table(table), foreign)
        return ab_report(log, events=foreign).samples[0].events

    after = NOON // SECOND + 60  # 2023-11-14 22:14:20.
    for times in (
        ["2023/11/14 22:14:20", "2023/11/20 10:00:00", None],
        ["2023-11-14T22:14:20.123456789Z", "2023-11-14T22:12:20Z", "?"],
        [str(after), str(after + 10**6), "0"],
        [20231114221420, 20231120000000, 99991231000000],
        [after * 10**7 + 116444736000000000, 133500000000000000, 0],
    ):
        assert events(times) == 1
    assert events(pa.array(["11/14/2023 10:14:20 PM"] * 3).dictionary_encode()) == 3
    for times, words in (
        (["01/02/2023"] * 3, "which fit day/month/year and month/day/year"),
        (["soon"] * 3, "but 'soon'; expected Arrow timestamps"),
        ([1, 2, 3], "numbers that are no dates, such as 1"),
        ([True] * 3, "is bool, expected a time"),
    ):
        with pytest.raises(UserError, match=words):
            events(times)


def test_events_from_elsewhere_have_ids_of_any_type(tmp_path):
    log = write_log(tmp_path / "log", [{"query_id": "5", "item_ids": ["7"]}], [])
    foreign = tmp_path / "foreign.parquet"
    moments = pa.array([NOON + 60 * SECOND] * 2, pa.timestamp("us"))
    for kind in (pa.int32(), pa.float64(), pa.decimal128(20, 1)):
        query, item = pa.array([5, None]).cast(kind), pa.array([7, 7]).cast(kind)
        events = pa.table({"timestamp": moments, "query_id": query, "item_id": item})
        pq.write_table(events, foreign)
        assert ab_report(log, events=foreign).samples[0].events == 1


@pytest.mark.parametrize("first", [True, False])
def test_a_value_may_be_in_some_files_only(tmp_path, first):
    log = write_log(tmp_path / "log", [{"query_id": q, "item_ids": ["7"]} for q in "56"], [])
    for part, (query, has_value) in enumerate([("5", first), ("6", not first)]):
        moments = pa.array([NOON + 60 * SECOND], pa.timestamp("us"))
        events = pa.table({"timestamp": moments, "query_id": [query], "item_id": ["7"]})
        path = tmp_path / "foreign" / f"part-{part}.parquet"
        path.parent.mkdir(exist_ok=True)
        pq.write_table(events.append_column("value", [[8.0]]) if has_value else events, path)
    report = ab_report(log, events=tmp_path / "foreign")
    assert report.samples[0].events == 2
    assert lift_of(report, "value_per_query").control == 4


def test_attribution_is_that_of_a_naive_loop(tmp_path):
    random = np.random.default_rng(0)
    times = random.permutation(200)  # No two answers at one time.
    shown = [
        {
            "query_id": f"q{(query := int(random.integers(0, 20)))}",
            "variant": "ab"[query % 2],
            "item_ids": [f"i{i}" for i in random.choice(6, 3, replace=False)],
            "timestamp": NOON + int(times[number]) * HOUR // 2,
            "request_id": f"r{number}",
        }
        for number in range(200)
    ]
    happened = [
        {
            "query_id": f"q{random.integers(0, 22)}",
            "item_id": f"i{random.integers(0, 7)}",
            "timestamp": NOON + int(random.integers(0, 130)) * HOUR + SECOND,
            "value": float(random.integers(1, 9)),
        }
        for _ in range(300)
    ]
    outcomes = {f"q{query}": [0, 0.0, set()] for query in range(20)}
    for event in happened:
        before = [
            answer["timestamp"]
            for answer in shown
            if answer["query_id"] == event["query_id"]
            and event["item_id"] in answer["item_ids"]
            and answer["timestamp"] <= event["timestamp"]
        ]
        if before and event["timestamp"] - max(before) <= 24 * HOUR:
            of = outcomes[event["query_id"]]
            of[0] += 1
            of[1] += event["value"]
            of[2].add(max(before))
    found = ab_report(write_log(tmp_path, shown, happened))
    for place, name in enumerate(("control", "treated")):
        mine = [of for query, of in outcomes.items() if int(query[1:]) % 2 == place]
        answers = sum(int(row["query_id"][1:]) % 2 == place for row in shown)
        for metric, value in {
            "conversion_rate": np.mean([of[0] > 0 for of in mine]),
            "events_per_query": np.mean([of[0] for of in mine]),
            "value_per_query": np.mean([of[1] for of in mine]),
            "hit_rate": sum(len(of[2]) for of in mine) / answers,
        }.items():
            assert getattr(lift_of(found, metric), name) == pytest.approx(value), metric


def moments_of(y, x=None):
    x = np.ones(len(y)) if x is None else x
    (var_y, covariance), (_, var_x) = np.cov(y, x)
    return Moments(len(y), y.mean(), x.mean(), var_y, var_x, covariance)


def clicks(random, queries, rate, spread=20.0):
    """Draws hits and answers of queries, which differ in how often they ask and like."""
    answers = 1 + random.poisson(3, queries)
    own_rate = random.beta(rate * spread, (1 - rate) * spread, queries)
    return random.binomial(answers, own_rate).astype(float), answers.astype(float)


def test_the_interval_of_a_ratio_is_that_of_a_bootstrap():
    random = np.random.default_rng(3)
    a, b = clicks(random, 800, 0.2), clicks(random, 500, 0.25)
    found = lift("hit_rate", ratio(moments_of(*a)), ratio(moments_of(*b)), 0.05)
    drawn = []
    for _ in range(4000):
        rates = []
        for hits, answers in (a, b):
            rows = random.integers(0, len(hits), len(hits))
            rates.append(hits[rows].sum() / answers[rows].sum())
        drawn.append((rates[1] - rates[0], rates[1] / rates[0] - 1))
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    for change, place in ((found.absolute, 0), (found.relative, 1)):
        width = high[place] - low[place]
        assert change.low == pytest.approx(low[place], abs=0.06 * width)
        assert change.high == pytest.approx(high[place], abs=0.06 * width)


@pytest.mark.parametrize("is_ratio", [False, True])
def test_intervals_cover_the_true_lift_and_p_of_no_lift_is_uniform(is_ratio):
    random = np.random.default_rng(4)
    covered, p = [], []
    for _ in range(800):
        measured = []
        for rate, queries in ((0.2, 900), (0.24, 500), (0.2, 500)):
            hits, answers = clicks(random, queries, rate)
            measured.append(ratio(moments_of(hits, answers) if is_ratio else moments_of(hits)))
        control, better, same = measured
        # A query has four answers in the mean.
        size = 1 if is_ratio else 4
        found = lift("hit_rate", control, better, 0.05)
        covered.append(
            [
                found.absolute.low <= 0.04 * size <= found.absolute.high,
                found.relative.low <= 0.2 <= found.relative.high,
            ]
        )
        p.append(lift("hit_rate", control, same, 0.05).p)
    assert np.mean(covered, axis=0) == pytest.approx([0.95, 0.95], abs=0.025)
    assert stats.kstest(p, "uniform").pvalue > 0.001


def test_the_detectable_difference_is_detected_four_times_of_five():
    control, treated = Estimate(0.2, 0.01**2, 5000), Estimate(0.2, 0.01**2, 5000)
    difference = lift("hit_rate", control, treated, 0.05).detectable
    assert difference == pytest.approx((1.96 + 0.8416) * 0.01 * 2**0.5, rel=1e-3)
    random = np.random.default_rng(5)
    found = [
        lift(
            "hit_rate",
            Estimate(0.2 + random.normal(0, 0.01), 0.01**2, 5000),
            Estimate(0.2 + difference + random.normal(0, 0.01), 0.01**2, 5000),
            0.05,
        ).p
        for _ in range(2000)
    ]
    assert np.mean(np.array(found) < 0.05) == pytest.approx(0.8, abs=0.03)


def simulate(directory, seed, lift=0.0, queries=3000, names="ab", split=0.5, slow=1.0, **more):
    """Writes a log of queries that convert at 0.3, and more with a variant."""
    random = np.random.default_rng(seed)
    shown, happened = [], []
    shares = [1 - split, *[split / (len(names) - 1)] * (len(names) - 1)]
    variants = random.choice(list(names), queries, p=shares)
    for query, variant in enumerate(variants):
        is_control = variant == names[0]
        for answer in range(random.integers(1, 4)):
            latency = random.lognormal(1, 0.3) * (1 if is_control else slow)
            shown.append(
                {
                    "query_id": f"q{query}",
                    "variant": variant,
                    "request_id": f"{query}-{answer}",
                    "timestamp": NOON + answer * HOUR,
                    "is_fallback": bool(random.random() < 0.1),
                    "latency_ms": latency,
                }
            )
            if random.random() < 0.15 * (1 if is_control else 1 + lift):
                moment = NOON + answer * HOUR + SECOND
                happened.append({"query_id": f"q{query}", "timestamp": moment, "value": 1.0})
    return write_log(directory, shown, happened, split=split, names=names, **more)


def test_a_better_variant_is_found_to_be_better_and_a_worse_one_worse(tmp_path):
    rails = (
        GuardRail(metric="latency_p99_ms", worst_relative_change=0.3),
        GuardRail(metric="hit_rate", worst_relative_change=-0.05),
    )
    log = simulate(tmp_path / "log", 5, lift=0.6, guard_rails=rails)
    found = ab_report(log, output=tmp_path / "out")
    (comparison,) = found.comparisons
    assert comparison.verdict == "better"
    assert [check.state for check in comparison.guard_rails] == ["kept", "kept"]
    rate = lift_of(found, "hit_rate")
    assert rate.relative.low < 0.6 < rate.relative.high
    assert rate.is_significant
    assert sentences(found)[0].startswith("b is better than a: conversion rate 0.")
    assert json.loads((tmp_path / "out" / "ab_report.json").read_text()) == found.model_dump(
        mode="json"
    )
    page = (tmp_path / "out" / "ab_report.html").read_text()
    assert "Variant b is better than a: conversion rate 0." in page
    assert "; also events per query, value per query and hit rate of answers, below." in page
    assert "▲ better" in page
    assert "make it the champion" in page
    console = Console(width=80, file=io.StringIO())
    print_ab_report(found, console)
    assert "Hit rate of answers" in console.file.getvalue()
    worse = ab_report(simulate(tmp_path / "worse", 5, lift=-0.6, guard_rails=rails))
    assert worse.comparisons[0].verdict == "guard-rail broken"
    (opening,) = ab_page(worse).opening
    assert opening.label == "▼ guard-rail broken"
    assert "Keep a" in opening.todo
    hits = next(group for group in opening.groups if group.name == "Hit rate of answers")
    assert hits.mark == "worse"
    assert "b breaks the guard-rail of hit rate of answers" in sentences(worse)[0]
    assert ab_report(simulate(tmp_path / "w", 5, lift=-0.6)).comparisons[0].verdict == "worse"


def test_an_a_a_test_rarely_finds_anything(tmp_path):
    reports = [ab_report(simulate(tmp_path / str(s), s, queries=600)) for s in range(20)]
    verdicts = [report.comparisons[0].verdict for report in reports]
    assert verdicts.count("no difference") >= 17  # 20 cases, where 19 are expected.
    assert all(report.is_trusted for report in reports)
    for metric in ("conversion_rate", "value_per_query", "fallback_rate"):
        p = [lift_of(report, metric).p for report in reports]
        assert stats.kstest(p, "uniform").pvalue > 0.001, metric


def test_p_of_several_outcomes_and_variants_is_adjusted(tmp_path):
    found = ab_report(simulate(tmp_path, 1, lift=0.3, names="abc"))
    outcomes = ("conversion_rate", "events_per_query", "value_per_query", "hit_rate")
    lifts = [lift_of(found, metric, place) for place in (0, 1) for metric in outcomes]
    ordered = sorted(lifts, key=lambda each: each.p)
    largest = 0.0
    for rank, each in enumerate(ordered):
        largest = max(largest, min(1.0, each.p * (len(ordered) - rank)))
        assert each.adjusted_p == pytest.approx(largest)
    fallback = lift_of(found, "fallback_rate")
    assert fallback.adjusted_p == fallback.p


def test_a_sample_ratio_mismatch_ends_all_trust(tmp_path):
    log = simulate(tmp_path, 2, lift=0.6, split=0.45)
    document = json.loads((log / "experiment.json").read_text())
    for variant in document["variants"]:
        variant["share"] = 0.5
    (log / "experiment.json").write_text(json.dumps(document))
    found = ab_report(log)
    counts = [sample.queries for sample in found.samples]
    assert found.sample_ratio_p == pytest.approx(stats.chisquare(counts).pvalue)
    assert found.sample_ratio_p < 0.001
    assert not found.is_trusted
    assert found.comparisons[0].verdict == "do not trust"
    assert sentences(found)[0].startswith("do not trust this test")
    assert "sample ratio mismatch: a 1," in warnings(found)[0]


@pytest.mark.parametrize(("slow", "state"), [(1.0, "kept"), (1.2, "open"), (2.0, "broken")])
def test_the_tail_of_the_latency_is_a_guard_rail(tmp_path, slow, state):
    rails = (GuardRail(metric="latency_p99_ms", worst_relative_change=0.2),)
    found = ab_report(simulate(tmp_path, 5, slow=slow, queries=2000, guard_rails=rails))
    tail = lift_of(found, "latency_p99_ms")
    assert tail.control == pytest.approx(np.exp(1 + 0.3 * stats.norm.ppf(0.99)), rel=0.1)
    assert tail.relative.low < slow - 1 < tail.relative.high
    (check,) = found.comparisons[0].guard_rails
    assert check.state == state
    words = {"kept": "no significant difference", "open": "is open", "broken": "breaks"}
    assert words[state] in sentences(found)[0]


def test_the_interval_of_the_tail_is_that_of_a_bootstrap_over_queries(tmp_path):
    random = np.random.default_rng(6)
    latencies = {
        f"q{query}": np.round(random.gamma(2, 1) * random.lognormal(0, 0.2, 5), 2)
        for query in range(1500)
    }
    shown = [
        {"query_id": query, "variant": variant, "latency_ms": float(latency)}
        for variant, queries in (("a", range(1000)), ("b", range(1000, 1500)))
        for query in (f"q{i}" for i in queries)
        for latency in latencies[query]
    ]
    found = lift_of(ab_report(write_log(tmp_path, shown, [])), "latency_p99_ms")
    a, b = np.split(np.array(list(latencies.values())), [1000])
    drawn = [
        [np.quantile(part[random.integers(0, len(part), len(part))], 0.99) for part in (a, b)]
        for _ in range(1000)
    ]
    error = np.std(np.subtract(*np.array(drawn).T))
    assert found.control == pytest.approx(np.quantile(a, 0.99), rel=0.01)
    width = found.absolute.high - found.absolute.low
    assert width == pytest.approx(2 * 1.96 * error, rel=0.2)


def test_without_outcomes_there_is_a_report_of_what_there_is(tmp_path):
    shown = [{"query_id": f"q{i}", "variant": "ab"[i % 2]} for i in range(20)]
    rails = (GuardRail(metric="fallback_rate", worst_relative_change=0.05),)
    log = write_log(tmp_path, shown, [], guard_rails=rails)
    found = ab_report(log, output=tmp_path / "out")
    assert lift_of(found, "conversion_rate").p is None
    # None of nothing is no more than it was.
    assert found.comparisons[0].guard_rails[0].state == "kept"
    assert found.comparisons[0].verdict == "no difference"
    assert "no event is on an item" in warnings(found)[0]
    # One of two variants has not answered yet.
    alone = ab_report(write_log(tmp_path / "b", shown[::2], []), output=tmp_path / "out")
    assert lift_of(alone, "hit_rate").treated is None


def test_logs_that_are_empty_torn_or_foreign_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"has no experiment\.json"):
        ab_report(tmp_path)
    log = write_log(tmp_path / "log", [], [])
    with pytest.raises(UserError, match="has no exposure"):
        ab_report(log)
    write(log / "exposures", [], EXPOSURE_SCHEMA)
    write_log(log, *ten_rows())
    with pytest.raises(UserError, match="has no Parquet file"):
        ab_report(log, events=tmp_path / "nowhere")
    whole = next((log / "exposures").rglob("*.parquet"))
    torn = log / "exposures" / "torn.parquet"
    torn.write_bytes(whole.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"torn\.parquet is not a whole Parquet file"):
        ab_report(log)
    torn.rename(torn.with_name(".torn.parquet"))  # A writer's that was killed.
    ab_report(log)
    foreign = log / "events" / "foreign.parquet"
    pq.write_table(pa.table({"user": [1]}), foreign)
    with pytest.raises(UserError, match=r"foreign\.parquet has no column 'timestamp'"):
        ab_report(log)
    pq.write_table(pa.table({"timestamp": ["1"], "query_id": ["q"], "item_id": ["i"]}), foreign)
    with pytest.raises(UserError, match="is string, expected a timestamp"):
        ab_report(log)


def test_a_file_that_is_torn_within_is_refused(tmp_path):
    log = write_log(tmp_path, *ten_rows())
    file = next((log / "exposures").rglob("*.parquet"))
    content = bytearray(file.read_bytes())
    start = pq.read_metadata(file).row_group(0).column(4).data_page_offset
    content[start : start + 20] = b"\xff" * 20
    file.write_bytes(content)
    with pytest.raises(UserError, match="DuckDB cannot read the log"):
        ab_report(log)


def test_exposures_of_another_experiment_are_refused(tmp_path):
    shown, happened = ten_rows()
    log = write_log(tmp_path / "1", [*shown, {"query_id": "q", "experiment": "f"}], happened)
    with pytest.raises(UserError, match="of experiment 'f', expected a or b of 'e'"):
        ab_report(log)
    log = write_log(tmp_path / "2", [*shown, {"query_id": "q", "variant": "c"}], happened)
    with pytest.raises(UserError, match="variant 'c'"):
        ab_report(log)


def test_few_outcomes_and_few_answers_tell_nothing(tmp_path):
    """Tests that a handful of outcomes, and the slowest of a few answers, decide nothing."""
    shown = [
        {"query_id": f"{v}{at}", "variant": v, "latency_ms": 9.0 + at if v == "b" else 1.0 + at}
        for v in "ab"
        for at in range(40)
    ]
    happened = [{"query_id": f"{v}{at}"} for v in "ab" for at in range(10)]
    rail = GuardRail(metric="latency_p99_ms", worst_relative_change=0.01)
    found = ab_report(write_log(tmp_path, shown, happened, guard_rails=(rail,)))
    assert [check.state for check in found.comparisons[0].guard_rails] == ["open"]
    assert lift_of(found, "latency_p99_ms").relative.low is None
    (verdict,) = ab_page(found).opening
    assert (verdict.mark, verdict.word) == ("cannot tell", "too few outcomes")
    assert "a has 10, b has 10" in verdict.todo
    assert {each.mark for each in verdict.groups if "rate" in each.name} == {"cannot tell"} | {
        each.mark for each in verdict.groups if each.name == "Fallback rate"
    }


def test_the_report_has_the_word_of_the_log(tmp_path):
    log = write_log(tmp_path, *ten_rows())
    experiment = read_experiment(log).model_copy(update={"query": "session"})
    write_experiment(log, experiment)
    found = ab_report(log)
    page = render_page(ab_page(found))
    assert "Sessions" in page
    assert "A session is what the configuration calls a query." in page
    terminal = io.StringIO()
    print_ab_report(found, Console(file=terminal, width=80))
    assert "a: 3 sessions, 4 answers" in terminal.getvalue()
    assert "queries" not in terminal.getvalue()
