"""Sections about recordings and windows: ``data``, ``preprocessing``, ``windows``, ``sampling``."""

from typing import Annotated, Literal

from pydantic import Field

from brainbrr.config.base import Section

Band = Annotated[tuple[float, float], Field(strict=False)]


class Data(Section):
    """Which recordings are used."""

    corpus: str = "auto"
    """Reader of the folder's layout, by registered name, or ``auto`` to find it by layout."""
    directory: str | None = None
    """Folder of the corpus, or ``demo`` for the embedded one; ``BGB_DATA_DIR`` overrides it."""
    on_bad_recording: Literal["error", "skip"] = "error"
    """What to do with a recording that cannot be read."""
    max_skipped_share: float = Field(default=0.05, ge=0, le=1)
    """Largest share of recordings that may be skipped."""


class Preprocessing(Section):
    """What is done to a recording before windows are cut."""

    rate_hz: float = Field(default=256.0, gt=0)
    """Sampling rate of the model's input."""
    band_hz: Band = (0.5, 100.0)
    """Pass band of the zero-phase band-pass filter."""
    notch_hz: Literal[50, 60] | None = 60
    """Mains frequency to remove with its harmonics, or null."""
    standardize: Literal["robust", "zscore", "none"] = "robust"
    """Per-channel standardisation over the whole recording."""
    clip: float | None = Field(default=20.0, gt=0)
    """Largest absolute value after standardisation, or null."""


class Windows(Section):
    """How a recording is cut."""

    length_s: float = Field(default=60.0, gt=0)
    """Window length."""
    stride_s: float = Field(default=10.0, gt=0)
    """Distance between the starts of two training windows."""
    short: Literal["pad", "skip"] = "pad"
    """A recording shorter than a window is padded and masked, or skipped and counted."""


class Sampling(Section):
    """Which training windows an epoch holds."""

    strategy: Literal["balanced", "uniform"] = "balanced"
    """``balanced`` draws the kinds of window by the shares below, ``uniform`` takes every window once."""


class Cache(Section):
    """How preprocessed recordings are kept."""

    dtype: Literal["float16", "float32"] = "float32"
    """Type of the stored samples."""
