"""Windows: preprocessing, cache, dataset and sampler."""

from brainbrr.windows.dataset import Windows
from brainbrr.windows.loading import load_files, load_split
from brainbrr.windows.preprocess import preprocess
from brainbrr.windows.sampler import WindowSampler, make_sampler

__all__ = ["WindowSampler", "Windows", "load_files", "load_split", "make_sampler", "preprocess"]
