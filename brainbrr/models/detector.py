"""The detector: encoder, bidirectional Mamba-2, head."""

from torch import Tensor, nn

from brainbrr.config import Config
from brainbrr.config.encoders import encoder_class
from brainbrr.config.model import Model
from brainbrr.errors import ConfigError
from brainbrr.models.bimamba import BiMamba2
from brainbrr.models.door import admit
from brainbrr.models.encoder import STRIDE
from brainbrr.models.head import Head
from brainbrr.montage import N_CHANNELS


class Detector(nn.Module):
    """One logit per sample: the log odds that a seizure is under way."""

    def __init__(self, config: Model, in_channels: int = N_CHANNELS, *, seizure_share: float | None = None) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.encoder = encoder_class(config.encoder.name)(config.encoder, in_channels)
        width = self.encoder.out_channels
        self.norm = nn.LayerNorm(width)
        self.mamba = BiMamba2(config.mamba, width)
        self.head = Head(config.head, width, seizure_share)

    def forward(self, signal_BCT: Tensor) -> Tensor:
        """Map (B, N, T) to logits (B, T), in the signal's dtype.

        Raises:
            ModelInputError: another shape, channel count or dtype, or a value that is not finite.
        """
        signal_BCT = admit(signal_BCT, self.in_channels, self.head.projection.weight.dtype)
        features_BDL = self.encoder(signal_BCT)
        features_BLD = self.norm(features_BDL.transpose(1, 2))
        logits: Tensor = self.head(self.mamba(features_BLD))
        return logits.to(signal_BCT.dtype)


def build_detector(config: Config, *, seizure_share: float | None = None) -> Detector:
    """Build the detector of a configuration, its first logits at the prior of ``seizure_share``.

    Args:
        config: the whole configuration; the window must be a multiple of 16 samples.
        seizure_share: share of samples inside a seizure in the training windows; None means one half.

    Raises:
        ConfigError: the sections do not fit together.
    """
    samples = config.windows.length_s * config.preprocessing.rate_hz
    if samples % STRIDE:
        raise ConfigError(
            "a window is no multiple of the encoder's stride",
            where="windows.length_s",
            got=f"{samples:g} samples",
            expected=f"a multiple of {STRIDE}",
        )
    return Detector(config.model, seizure_share=seizure_share)
