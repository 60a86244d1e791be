"""The table of checks as text: for ``pytest --smoke-checks``, and as a page of the docs."""

import textwrap

from pytest_brainbrr.checks.catalogue import CHECKS, PLANS


def catalogue_lines() -> list[str]:
    """Return one paragraph per check, grouped: its id, what it proves, and the runs it needs."""
    lines = []
    group = None
    for check in CHECKS:
        if check.group != group:
            group = check.group
            lines += ["", group]
        needs = "" if tuple(check.needs) == ("straight",) else f" (runs: {', '.join(check.needs)})"
        text = f"{check.proves}{needs}"
        lines += [f"  {check.id}", *textwrap.wrap(text, 100, initial_indent="      ", subsequent_indent="      ")]
    return [*lines[1:], "", f"{len(CHECKS)} checks"]


def catalogue_page() -> str:
    """Return docs/checks.md: every check with what it proves, the faults it catches, its runs and its limits."""
    lines = [
        "# Checks",
        "",
        "Made from the catalogue by `python -m pytest_brainbrr.report.catalogue > docs/checks.md`.",
        "A check that lacks a fact or a run is *vacuous* and says which; it never counts as passed.",
        "",
        "## Runs",
        "",
        *(f"- **{plan}**: {what}" for plan, what in PLANS.items()),
    ]
    group = None
    for check in CHECKS:
        if check.group != group:
            group = check.group
            lines += ["", f"## {group.capitalize()}"]
        lines += ["", f"### {check.id}", "", check.title, "", f"- Proves: {check.proves}"]
        lines += [f"- Catches: {'; '.join(check.faults)}."] if check.faults else []
        lines.append(f"- Needs: {', '.join(check.needs)}.")
        lines += [f"- Sharper with: {', '.join(check.wants)}."] if check.wants else []
        lines += ["- Also judged on: cut."] if check.cut else []
        lines += [f"- Limits: {check.limits}"] if check.limits else []
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(catalogue_page(), end="")
