"""Scores as a table for the terminal."""

import math
from collections.abc import Iterable, Mapping

from rich.table import Table

from brainbrr.scoring.score import Score


def score_table(scores: Iterable[Score], title: str | None = None) -> Table:
    """Return one row per score, grouped by scorer; an undefined score shows its reason."""
    table = Table(title=title, title_justify="left")
    table.add_column("scorer")
    table.add_column("score")
    table.add_column("value", justify="right")
    table.add_column("from", overflow="fold")
    before: Score | None = None
    for score in scores:
        again = before is not None and before.scorer == score.scorer
        if before is not None and not again:
            table.add_section()
        # The counts behind the scores of one scorer are mostly the same: say them once.
        same = before is not None and again and before.counts == score.counts and score.reason is None
        value = "undefined" if math.isnan(score.value) else format_number(score.value)
        evidence = "" if same else format_counts(score.counts)
        table.add_row(
            "" if again else score.scorer,
            score.name,
            value,
            evidence if score.reason is None else f"{score.reason} ({evidence})",
            style=None if score.reason is None else "yellow",
        )
        before = score
    return table


def format_counts(counts: Mapping[str, float]) -> str:
    """Say counts in words.

    >>> format_counts({"hits": 7, "hours": 3.33333})
    'hits 7, hours 3.333'
    """
    return ", ".join(f"{name} {format_number(value)}" for name, value in counts.items())


def format_number(value: float) -> str:
    """Show whole numbers whole, and others with four digits.

    >>> [format_number(value) for value in (12345, 0.98765, 7.0, 123.456)]
    ['12,345', '0.9877', '7', '123.5']
    """
    if value == round(value):
        return f"{value:,.0f}"
    return f"{value:.4g}" if abs(value) < 10_000 else f"{value:,.0f}"
