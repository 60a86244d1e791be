"""The table of checks as text, for ``pytest --smoke-checks``."""

import textwrap

from pytest_brainbrr.checks.catalogue import CHECKS


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
