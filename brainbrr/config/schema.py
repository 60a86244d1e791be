"""The whole configuration: one attribute per section."""

from pydantic import Field

from brainbrr.config.base import Section
from brainbrr.config.data import Cache, Data, Preprocessing, Sampling, Windows
from brainbrr.config.model import Model
from brainbrr.config.scoring import Scoring
from brainbrr.config.training import Checkpoints, Run, Tracking, Training


class Config(Section):
    """Everything a run is told. Sections left out take their defaults."""

    run: Run
    data: Data = Data()
    preprocessing: Preprocessing = Preprocessing()
    windows: Windows = Windows()
    cache: Cache = Cache()
    sampling: Sampling = Sampling()
    model: Model = Field(default_factory=Model)  # made when asked: its default encoder imports torch
    training: Training = Training()
    checkpoints: Checkpoints = Checkpoints()
    scoring: Scoring = Scoring()
    tracking: Tracking = Tracking()
