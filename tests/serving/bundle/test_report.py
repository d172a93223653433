"""The page of a bundle opens with what it was held against, and with the checks of its index."""

from serving.bundle.report import bundle_page
from tests.recsys.reports.test_evaluation import result
from tests.support.tiny_bundle import export_untrained, write_prepared


def test_the_page_opens_with_the_verdict_and_the_index(tmp_path, monkeypatch):
    manifest = export_untrained(write_prepared(tmp_path), monkeypatch)
    unknown, checks = bundle_page(manifest, 0.98).opening
    assert unknown.mark == "cannot tell"
    assert "recsys evaluate" in unknown.todo
    states = {check.name: check.state for check in checks.checks}
    assert states["Index"] == "passes"
    assert bundle_page(manifest, 1.01).opening[1].checks[0].state == "fails"
    gate = manifest.gate.model_copy(update={"champion": "run-0", "changes": {"tail": -0.01}})
    champion = manifest.model_copy(update={"gate": gate})
    first, second, _ = bundle_page(champion, 0.98, result()).opening
    assert "recsys export" not in second.todo  # It is exported.
    assert first.word == "not worse"
    assert "champion of run run-0" in first.sentence
    assert "baseline" in second.sentence
