"""Renderers: terminal lines, HTML page, the page of the catalogue."""

from pathlib import Path

import pytest

from pytest_brainbrr.report.catalogue import catalogue_lines, catalogue_page
from pytest_brainbrr.report.html import html_page
from pytest_brainbrr.report.terminal import NOT_FOR_TRAINING, summary_lines
from pytest_brainbrr.results import Finding, Outcome, Report, SmokeFailedError

ERROR = Finding("a-check", "net.0", "error", "broken <b>", {"steps": 6}, "a cause", "a hint")
WARNING = Finding("b-check", "loss", "warning", "odd")


def report(*outcomes: Outcome) -> Report:
    return Report("tcn", outcomes, {"device": "cpu", "recordings_used": 3, "recordings_found": 9, "seconds": 4.123})


def test_the_summary_names_failures_warnings_and_reasons_once() -> None:
    vacuous = [Outcome(name, "vacuous", "no CUDA device") for name in ("c-check", "d-check")]
    whole = report(
        Outcome("a-check", "failed", findings=(ERROR,)), Outcome("b-check", "warned", findings=(WARNING,)), *vacuous
    )
    texts = [text for text, _ in summary_lines([whole, whole])]
    assert texts[0] == "tcn: device cpu, recordings 3 of 9, 4.1 s"
    assert "  checks that ran: 2 of 4 (1 failed, 1 warned)" in texts
    assert "    failed   a-check: net.0: broken <b>" in texts
    assert sum("no CUDA device" in text for text in texts) == 2  # once per target
    assert texts.count(NOT_FOR_TRAINING) == 1


def test_what_broke_a_run_off_is_said_first_and_once() -> None:
    said = "the run broke off before its first optimizer step (ModuleNotFoundError: No module named 'x')"
    lines = ["Traceback", "ModuleNotFoundError: No module named 'x'"]
    finding = Finding("run-finishes", "<run>", "error", "it broke", {"code": 1, "last_lines": lines})
    vacuous = [Outcome(f"check-{number}", "vacuous", said) for number in range(30)]
    outcomes = (Outcome("run-finishes", "failed", findings=(finding,)), *vacuous)
    whole = Report("tcn", outcomes, {"device": "unknown", "broke_off": said})
    texts = [text for text, _ in summary_lines([whole])]
    assert texts[1] == f"  {said}"
    assert any("check-6 and 23 more: the run broke off" in text for text in texts)
    page = html_page([whole])
    assert page.count("the run broke off") == 2
    assert "Traceback\nModuleNotFoundError" in page
    assert "every other check" in page
    assert "check-7" not in page


def test_mostly_vacuous_is_said() -> None:
    texts = [text for text, _ in summary_lines([report(Outcome("a", "passed"), *[Outcome("b", "vacuous", "x")] * 2)])]
    assert any("no clean bill" in text for text in texts)
    texts = [text for text, _ in summary_lines([report(Outcome("a", "passed"), Outcome("b", "vacuous", "x"))])]
    assert not any("no clean bill" in text for text in texts)


def test_the_page_holds_everything_escaped() -> None:
    page = html_page([report(Outcome("a-check", "failed", findings=(ERROR,)), Outcome("c", "vacuous", "no CUDA"))])
    for words in ("a-check", "broken &lt;b&gt;", "a cause", "a hint", "no CUDA", "1 failed", "1 vacuous"):
        assert words in page
    assert "<b>" not in page


def test_the_page_of_the_catalogue_is_current() -> None:
    page = Path(__file__).parents[3] / "docs" / "checks.md"
    assert page.read_text(encoding="utf-8") == catalogue_page(), (
        "python -m pytest_brainbrr.report.catalogue > docs/checks.md"
    )
    assert catalogue_lines()[-1].endswith(" checks")


def test_a_report_survives_being_plain_data() -> None:
    whole = report(Outcome("a-check", "failed", findings=(ERROR,)), Outcome("b-check", "warned", findings=(WARNING,)))
    assert Report.from_dict(whole.as_dict()) == whole
    assert whole.findings == (ERROR, WARNING)
    assert whole.outcome("b-check").status == "warned"
    with pytest.raises(KeyError):
        whole.outcome("nonsense")


def test_failures_raise_with_their_findings_unless_declared() -> None:
    report(Outcome("a-check", "failed", findings=(ERROR,), expected_failure="known")).raise_if_failed()
    with pytest.raises(SmokeFailedError, match=r"a-check: net\.0: broken"):
        report(Outcome("a-check", "failed", findings=(ERROR,))).raise_if_failed()
    with pytest.raises(SmokeFailedError, match="declared to fail \\(known\\) but passed"):
        report(Outcome("a-check", "passed", expected_failure="known")).raise_if_failed()


def test_a_vacuous_outcome_must_say_why() -> None:
    with pytest.raises(ValueError, match="names the fact it lacked"):
        Outcome("a-check", "vacuous")
