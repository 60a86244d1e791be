"""Sections about the run: ``run``, ``training``, ``checkpoints``, ``tracking``."""

from typing import Literal

from pydantic import Field

from brainbrr.config.base import Section


class Run(Section):
    """One run of the trainer."""

    name: str
    """Short name of the run."""
    output_dir: str
    """Folder for checkpoints, metrics and the run's record."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of every random number generator."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the model runs."""


class Training(Section):
    """The training loop."""

    max_steps: int | None = Field(default=None, ge=1)
    """Stop after this many optimizer steps."""
    epochs: int = Field(default=1, ge=1)
    """Passes over the sampler's windows."""
    batch_size: int = Field(default=8, ge=1)
    """Windows in a batch."""


class Checkpoints(Section):
    """When checkpoints are written."""


class Tracking(Section):
    """Where metrics go beside ``metrics.jsonl``."""
