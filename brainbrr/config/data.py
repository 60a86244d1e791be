"""Sections about recordings and windows: ``data``, ``preprocessing``, ``windows``, ``sampling``, ``cache``."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from brainbrr.config.base import Section

Band = Annotated[tuple[float, float], Field(strict=False)]


class SplitRatio(Section):
    """Shares of the patients in each split."""

    train: float = Field(default=0.8, ge=0)
    """Share of the patients to train on."""
    dev: float = Field(default=0.1, ge=0)
    """Share of the patients to validate on while training."""
    eval: float = Field(default=0.1, ge=0)
    """Share of the patients held out."""

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not self.train + self.dev + self.eval > 0:
            raise ValueError("one share above 0 at least")
        return self


class Data(Section):
    """Which recordings are used."""

    corpus: str = "auto"
    """Reader of the folder's layout, by registered name, or ``auto`` to find it by layout."""
    directory: str | None = None
    """Folder of the corpus, or ``demo`` for the embedded one; ``BGB_DATA_DIR`` overrides it."""
    montage: Literal["referential", "bipolar"] = "referential"
    """The 19 electrodes, or 19 differences of neighbors; the latter also fits bipolar recordings (CHB-MIT)."""
    split: Literal["auto", "official", "ratio"] = "auto"
    """The corpus's own split, one by patient and ratio, or the first where there is one and else the second."""
    split_ratio: SplitRatio = SplitRatio()
    """Shares of the patients, for a split by ratio."""
    split_seed: int = Field(default=0, ge=0)
    """Seed of the split by ratio."""
    on_bad_recording: Literal["error", "skip"] = "error"
    """What to do with a recording that cannot be read."""
    max_skipped_share: float = Field(default=0.05, ge=0, le=1)
    """Largest share of a split's recordings that may be skipped."""


class Preprocessing(Section):
    """What is done to a recording before windows are cut."""

    rate_hz: float = Field(default=256.0, gt=0)
    """Sampling rate of the model's input."""
    band_hz: Band = (0.5, 100.0)
    """Pass band of the zero-phase band-pass filter."""
    notch_hz: Literal[50, 60] | None = 60
    """Mains frequency to remove with its harmonics, or null."""
    standardize: Literal["robust", "zscore", "none"] = "robust"
    """Per channel over the whole recording: by median and quartiles, by mean and deviation, or none (microvolts)."""
    clip: float | None = Field(default=20.0, gt=0)
    """Largest absolute value after standardization, or null."""

    @model_validator(mode="after")
    def _ordered_band(self) -> Self:
        low, high = self.band_hz
        if not 0 < low < high:
            raise ValueError(f"0 < low < high in band_hz, got {low:g} and {high:g}")
        return self


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
    partial_share: float = Field(default=0.4, ge=0)
    """Share of windows that hold a part of a seizure beside background."""
    full_share: float = Field(default=0.1, ge=0)
    """Share of windows that are seizure from end to end."""
    none_share: float = Field(default=0.5, ge=0)
    """Share of windows without seizure."""
    windows_per_epoch: int | None = Field(default=None, ge=1)
    """Windows in an epoch; null: as many as show every seizure window about once (balanced), or all (uniform)."""

    @model_validator(mode="after")
    def _seizures_wanted(self) -> Self:
        if not self.partial_share + self.full_share > 0:
            raise ValueError("partial_share + full_share above 0: an epoch without seizures teaches nothing")
        return self


class Cache(Section):
    """How preprocessed recordings are kept."""

    directory: str | None = None
    """Folder of the arrays; null: ``windows`` in ``BGB_CACHE_DIR``."""
    dtype: Literal["float16", "float32"] = "float32"
    """Type of the stored samples."""
    jobs: int = Field(default=1, ge=1)
    """Processes that preprocess what is not cached yet."""
    verify: bool = True
    """Compare an array with its checksum when a process first opens it."""
