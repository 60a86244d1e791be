"""The summary at the end of ``pytest --smoke``, as lines with pytest's markup; writing them is the caller's."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pytest_brainbrr.results import Outcome, Report

Line = tuple[str, dict[str, bool]]

REASONS = 5
"""How many reasons of vacuous checks the summary of a target names: it is to fit on one screen."""

CUT = "  the steps end within a pass: what comes after it was seen in a run whose loaders were made shorter"
NAMES = 8
"""How many checks that share a reason are named."""

NOT_FOR_TRAINING = "A smoke run shows that the machinery works. Its checkpoints are not for training."


def summary_lines(reports: Sequence[Report], *, verbose: bool = False) -> list[Line]:
    """Return the summary of all targets; ``verbose`` lists the passed checks and every reason too."""
    lines: list[Line] = []
    for report in reports:
        lines += _target_lines(report, verbose=verbose)
    lines.append((NOT_FOR_TRAINING, {}))
    return lines


def _target_lines(report: Report, *, verbose: bool) -> list[Line]:
    lines: list[Line] = [(f"{report.target}: {_facts(report.facts)}", {"bold": True})]
    if report.facts.get("broke_off"):
        lines.append((f"  {report.facts['broke_off']}", {"red": True}))
    counts = Counter(outcome.status for outcome in report.outcomes)
    ran = len(report.outcomes) - counts["vacuous"]
    text = ", ".join(f"{counts[status]} {status}" for status in ("passed", "failed", "warned") if counts[status])
    text = f"  checks that ran: {ran} of {len(report.outcomes)}" + (f" ({text})" if text else "")
    lines.append((text, {"red": True} if counts["failed"] else {"green": True} if ran else {"yellow": True}))
    if counts["vacuous"] > ran:
        lines.append(
            ("  most checks are vacuous: they saw nothing to judge, so this is no clean bill", {"yellow": True})
        )
    if "cut" in report.facts.get("runs", {}):
        lines.append((CUT, {}))
    for outcome in report.outcomes:
        lines += _outcome_lines(outcome, verbose=verbose)
    if not verbose:
        lines += _vacuous_lines(report.outcomes)
    return lines


def _outcome_lines(outcome: Outcome, *, verbose: bool) -> list[Line]:
    if outcome.status == "vacuous":
        return [(f"    vacuous  {outcome.check}: {outcome.reason}", {"yellow": True})] if verbose else []
    if outcome.status == "passed" and outcome.expected_failure is None:
        return [(f"    passed   {outcome.check}", {"green": True})] if verbose else []
    if outcome.status == "passed":
        text = f"    failed   {outcome.check}: declared to fail ({outcome.expected_failure}) but passed"
        return [(text, {"red": True})]
    if outcome.expected_failure is not None:
        return [(f"    expected {outcome.check}: {outcome.expected_failure}", {"yellow": True})]
    markup = {"red": True} if outcome.status == "failed" else {"yellow": True}
    return [
        (f"    {outcome.status:<8} {outcome.check}: {finding.where}: {finding.message}", markup)
        for finding in outcome.findings
    ]


def _vacuous_lines(outcomes: Sequence[Outcome]) -> list[Line]:
    """Say the reasons that silenced most checks, each once."""
    by_reason: dict[str, list[str]] = {}
    for outcome in outcomes:
        if outcome.status == "vacuous":
            by_reason.setdefault(outcome.reason, []).append(outcome.check)
    reasons = sorted(by_reason.items(), key=lambda item: -len(item[1]))
    lines: list[Line] = [
        (f"    vacuous  {_some(checks)}: {reason}", {"yellow": True}) for reason, checks in reasons[:REASONS]
    ]
    rest = [check for _, checks in reasons[REASONS:] for check in checks]
    if rest:
        lines.append((f"    vacuous  {len(rest)} more, each with its reason: -v", {"yellow": True}))
    return lines


def _some(checks: Sequence[str]) -> str:
    """Name checks, the first of them where they are many."""
    if len(checks) <= NAMES:
        return ", ".join(checks)
    return f"{', '.join(checks[: NAMES - 1])} and {len(checks) - NAMES + 1} more"


def _facts(facts: Mapping[str, Any]) -> str:
    parts = []
    if "device" in facts:
        parts.append(f"device {facts['device']}")
    if "recordings_used" in facts:
        parts.append(f"recordings {facts['recordings_used']} of {facts.get('recordings_found', '?')}")
    for name, label in (("windows", "windows"), ("seizures", "seizures found"), ("steps", "steps")):
        if name in facts:
            parts.append(f"{label} {facts[name]}")
    if "seconds" in facts:
        parts.append(f"{facts['seconds']:.1f} s")
    return ", ".join(parts) or "no facts recorded"
