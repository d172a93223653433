"""The assignment to variants, the rules of experiment.json, and the export of two bundles."""

import json
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from feature_store.core.errors import UserError
from serving.bundle.manifest import verify
from serving.experiment.experiment import (
    EXPERIMENT_JSON,
    Experiment,
    GuardRail,
    Variant,
    read_experiment,
    write_experiment,
)
from serving.experiment.export import export_experiment
from tests.support.tiny_bundle import export_untrained, write_prepared

QUERIES = [f"q{i}" for i in range(20_000)]


def experiment(*shares, salt="s", name="e", **more):
    shares = shares or (0.5, 0.5)
    variants = tuple(
        Variant(name="abcd"[i], bundle="abcd"[i], share=share) for i, share in enumerate(shares)
    )
    created = datetime(2024, 1, 1, tzinfo=UTC)
    return Experiment(name=name, salt=salt, variants=variants, created=created, **more)


def assigned(of, queries=QUERIES):
    return [of.assign(query) for query in queries]


@pytest.mark.parametrize("shares", [(0.9, 0.1), (0.5, 0.5), (0.7, 0.2, 0.1), (0.1, 0.2, 0.3, 0.4)])
def test_every_variant_gets_its_share(shares):
    found = assigned(experiment(*shares))
    for name, share in zip("abcd", shares, strict=False):
        test = stats.binomtest(found.count(name), len(found), share)
        assert test.pvalue > 1e-4, (name, found.count(name))


def test_who_has_a_variant_keeps_it_while_its_share_grows():
    names = dict(zip(QUERIES, assigned(experiment(0.9, 0.1)), strict=True))
    for share in (0.2, 0.5, 0.99):
        grown = experiment(1 - share, share)
        assert all(grown.assign(query) == "b" for query, name in names.items() if name == "b")


def test_two_variants_that_grow_alike_take_from_the_control_alone():
    before = assigned(experiment(0.8, 0.15, 0.05))
    after = assigned(experiment(0.2, 0.6, 0.2))
    moved = {(old, new) for old, new in zip(before, after, strict=True) if old != new}
    assert moved == {("a", "b"), ("a", "c")}


@pytest.mark.parametrize("other", [{"salt": "t"}, {"name": "f"}])
def test_another_salt_or_name_divides_independently(other):
    pairs = list(zip(assigned(experiment()), assigned(experiment(**other)), strict=True))
    table = [[pairs.count((first, second)) for second in "ab"] for first in "ab"]
    assert stats.chi2_contingency(table).pvalue > 1e-4


@settings(max_examples=200, deadline=None)
@given(st.text(), st.text(), st.floats(0.001, 0.999))
def test_any_text_is_an_id(query_id, salt, share):
    of = experiment(1 - share, share, salt=salt)
    assert of.assign(query_id) == of.assign(query_id)
    assert of.assign(query_id) in ("a", "b")


def test_parts_of_the_key_do_not_run_together():
    first = assigned(experiment(salt="x1"), [f"{i}" for i in range(100)])
    second = assigned(experiment(salt="x"), [f"1{i}" for i in range(100)])
    assert first != second


def test_the_split_is_the_same_in_another_process_and_in_years():
    # Pinned: a change would move queries of experiments that are under way.
    wanted = "b b b b b a a a"
    queries = ["42", "é", "日本", "\ud800", "", "q1", "q2", "q3"]
    code = (
        "from datetime import UTC, datetime\n"
        "from serving.experiment.experiment import Experiment, Variant\n"
        "v = tuple(Variant(name=n, bundle=n, share=0.5) for n in 'ab')\n"
        "e = Experiment(name='e', salt='s', variants=v, created=datetime.now(UTC))\n"
        f"print(*[e.assign(q) for q in {queries!r}])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == wanted.split() == assigned(experiment(), queries)


def test_an_override_is_answered_by_its_variant():
    of = experiment(overrides={"q1": "b", "q2": "a"})
    assert assigned(of, ["q1", "q2"]) == ["b", "a"]


def test_written_and_read_it_is_the_same(tmp_path):
    rails = (GuardRail(metric="conversion_rate", worst_relative_change=-0.02),)
    of = experiment(overrides={"é": "b"}, guard_rails=rails)
    write_experiment(tmp_path, of)
    assert read_experiment(tmp_path) == of


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"extra": 1}, "extra: Extra inputs are not permitted"),
        ({"variants": [{"name": "a", "bundle": "a", "share": 0.5}]}, "at least 2 items"),
        (
            {"variants": [{"name": n, "bundle": n, "share": 0.6} for n in "ab"]},
            "the shares add up to 1.2, expected 1",
        ),
        (
            {"variants": [{"name": "a", "bundle": n, "share": 0.5} for n in "ab"]},
            "two variants have the same name",
        ),
        (
            {"variants": [{"name": n, "bundle": "../" + n, "share": 0.5} for n in "ab"]},
            "'../a' is not a directory below the experiment's",
        ),
        ({"overrides": {"q": "c"}}, "the override of query 'q' is to no variant: 'c'"),
        (
            {"guard_rails": [{"metric": "latency_p99_ms", "worst_relative_change": -0.1}]},
            "latency_p99_ms must be 0 or more",
        ),
        (
            {"guard_rails": [{"metric": "hit_rate", "worst_relative_change": 0.1}]},
            "hit_rate must be 0 or less",
        ),
        ({"guard_rails": [{"metric": "clicks", "worst_relative_change": 0}]}, "guard_rails.0"),
    ],
)
def test_what_is_no_experiment_is_refused(tmp_path, change, sentence):
    document = json.loads(experiment().model_dump_json()) | change
    (tmp_path / EXPERIMENT_JSON).write_text(json.dumps(document))
    with pytest.raises(UserError) as refused:
        read_experiment(tmp_path)
    assert sentence in str(refused.value)


def test_a_directory_without_one_and_torn_files_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"has no experiment\.json"):
        read_experiment(tmp_path)
    (tmp_path / EXPERIMENT_JSON).write_bytes(b'{"name": "\xff')
    with pytest.raises(UserError, match="is not an experiment: Invalid JSON"):
        read_experiment(tmp_path)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """Makes two outputs of configurations, each with its bundle."""
    directory = tmp_path_factory.mktemp("bundles")
    with pytest.MonkeyPatch.context() as patch:
        for seed in (0, 1):
            export_untrained(write_prepared(directory / str(seed)), patch, seed=seed)
    return directory / "0", directory / "1"


def test_an_export_holds_both_bundles_and_the_split(outputs, tmp_path):
    a, b = outputs
    found = export_experiment(a, b / "bundle", tmp_path / "ab", split=0.1, salt="s")
    assert read_experiment(tmp_path / "ab") == found
    assert (found.name, found.salt) == ("ab", "s")
    assert [(v.name, v.bundle, v.share) for v in found.variants] == [
        ("a", "a", 0.9),
        ("b", "b", 0.1),
    ]
    for variant, source in (("a", a), ("b", b)):
        assert verify(tmp_path / "ab" / variant) == verify(source / "bundle")
    # Nothing that happens to the sources reaches the copies.
    manifest = tmp_path / "ab" / "a" / "manifest.json"
    assert manifest.stat().st_ino != (a / "bundle" / "manifest.json").stat().st_ino


def test_a_larger_split_replaces_the_experiment_and_moves_nobody_back(outputs, tmp_path):
    a, b = outputs
    before = export_experiment(a, b, tmp_path / "ab", split=0.1, salt="s")
    # Also from the copies in the directory that is replaced.
    inside = tmp_path / "ab"
    after = export_experiment(inside / "a", inside / "b", inside, split=0.3, salt="s")
    assert all(after.assign(q) == "b" for q in QUERIES[:2000] if before.assign(q) == "b")
    assert verify(inside / "b") == verify(b / "bundle")


def test_an_a_a_test_must_be_meant(outputs, tmp_path):
    a, _ = outputs
    with pytest.raises(UserError, match="the same bundle"):
        export_experiment(a, a / "bundle", tmp_path / "aa", split=0.5, salt="s")
    assert not (tmp_path / "aa").exists()
    export_experiment(a, a, tmp_path / "aa", split=0.5, salt="s", allow_same=True)
    assert verify(tmp_path / "aa" / "a") == verify(tmp_path / "aa" / "b")


@pytest.mark.parametrize("split", [0.0, 1.0, -0.1, float("nan")])
def test_a_split_must_leave_something_to_both(outputs, tmp_path, split):
    with pytest.raises(UserError, match="expected the share of b"):
        export_experiment(*outputs, tmp_path / "ab", split=split, salt="s")


def test_what_is_no_bundle_or_would_be_overwritten_is_refused(outputs, tmp_path):
    a, b = outputs
    with pytest.raises(UserError, match="is not a bundle"):
        export_experiment(a, tmp_path, tmp_path / "ab", split=0.1, salt="s")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match=r"home holds something else, such as thesis.txt"):
        export_experiment(a, b, tmp_path / "home", split=0.1, salt="s")
    assert (tmp_path / "home" / "thesis.txt").exists()
    with pytest.raises(UserError, match=r"is within .*bundle, which is read"):
        export_experiment(a, b, a / "bundle" / "ab", split=0.1, salt="s")
    with pytest.raises(UserError, match="override of query 'q' is to 'c', expected one of: a, b"):
        export_experiment(a, b, tmp_path / "ab", split=0.1, salt="s", overrides={"q": "c"})
    assert not (tmp_path / "ab").exists()
