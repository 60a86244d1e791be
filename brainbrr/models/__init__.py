"""The detector and its parts."""

from brainbrr.models.detector import Detector, build_detector
from brainbrr.models.encoder import STRIDE, Encoder
from brainbrr.models.groups import parameter_groups
from brainbrr.models.kernels import resolve_kernel
from brainbrr.models.mamba import Mamba2

__all__ = ["STRIDE", "Detector", "Encoder", "Mamba2", "build_detector", "parameter_groups", "resolve_kernel"]
