"""Scores as a table for the terminal."""

import math
from collections.abc import Iterable, Mapping

from rich.box import SIMPLE_HEAD
from rich.table import Table

from brainbrr.scoring.score import Score


def score_table(scores: Iterable[Score], title: str | None = None) -> Table:
    """Return one row per score below its scorer's name; an undefined score shows its reason.

    Counts are said where they differ from those of the score above. The hours are said once, below.
    """
    table = Table("score", title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, caption_justify="left")
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("from", overflow="fold")
    before: Score | None = None
    for score in scores:
        if before is None or before.scorer != score.scorer:
            table.add_row(score.scorer, style="bold")
            before = None
        shown = {name: value for name, value in score.counts.items() if name != "hours"}
        evidence = [] if before is not None and before.counts == score.counts else [format_counts(shown)]
        reason = [] if score.reason is None else [score.reason]
        table.add_row(
            f"  {score.name}",
            "undefined" if math.isnan(score.value) else format_number(score.value),
            "; ".join(filter(None, reason + evidence)),
            style="yellow" if reason else None,
        )
        if "hours" in score.counts:
            table.caption = f"over {format_number(score.counts['hours'])} h of recording"
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
