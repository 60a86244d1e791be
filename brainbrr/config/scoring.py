"""Section ``scoring``: probabilities to events, and how events are scored."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from brainbrr.config.base import Section

Rates = Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(strict=False, min_length=1)]


class Scoring(Section):
    """From window probabilities to seizure events, and from events to scores."""

    trace_rate_hz: float = Field(default=16.0, gt=0)
    """Rate of a recording's probability trace: the model's samples are averaged in whole blocks down to about this."""
    on_threshold: float = Field(default=0.5, gt=0, le=1)
    """Probability from which a seizure starts."""
    off_threshold: float = Field(default=0.4, gt=0, le=1)
    """Probability below which a running seizure stops; at most ``on_threshold``."""
    opening_s: float = Field(default=1.0, ge=0)
    """Detections shorter than this are noise (binary opening)."""
    closing_s: float = Field(default=2.0, ge=0)
    """Gaps shorter than this are filled (binary closing)."""
    min_duration_s: float = Field(default=3.0, ge=0)
    """Shorter events are dropped, after the gaps were filled."""
    merge_gap_s: float = Field(default=5.0, ge=0)
    """Events closer than this become one."""
    false_alarms_per_24h: Rates = (10.0, 5.0, 2.5, 1.0)
    """Budgets at which sensitivity is reported, in false alarms per 24 h of recording."""
    curve_scorer: Literal["OVLP", "SzCORE events"] = "OVLP"
    """Rules of hit and false alarm for those budgets: NEDC any-overlap, or SzCORE events."""
    n_thresholds: int = Field(default=100, ge=2, le=10_000)
    """Thresholds of the curve of sensitivity against false alarms; more are tried around each budget."""
    calibration_bins: int = Field(default=15, ge=2)
    """Bins of the reliability diagram and of the calibration error."""
    calibration_binning: Literal["uniform", "adaptive"] = "uniform"
    """Bins of equal width, or bins that hold equally many samples."""

    @model_validator(mode="after")
    def _check_hysteresis(self) -> Self:
        if self.off_threshold > self.on_threshold:
            raise ValueError(f"off_threshold at most on_threshold, {self.on_threshold}")
        return self
