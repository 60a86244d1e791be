"""One number of a report, with everything needed to read it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Score:
    """A score: what it is called, whose rules made it, its value, and the counts behind it.

    An undefined score is NaN, and ``reason`` says why; a defined one has no reason.
    """

    name: str
    scorer: str
    value: float
    reason: str | None = None
    counts: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if math.isnan(self.value) == (self.reason is None):
            raise ValueError(f"a score has a reason exactly when it is NaN: {self}")


def ratio(
    name: str, scorer: str, numerator: float, denominator: float, *, reason: str, counts: Mapping[str, float]
) -> Score:
    """Return ``numerator / denominator`` as a score, NaN for ``reason`` when the denominator is 0."""
    if denominator == 0:
        return Score(name, scorer, math.nan, reason, counts)
    return Score(name, scorer, numerator / denominator, None, counts)
