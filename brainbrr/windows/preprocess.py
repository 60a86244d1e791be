"""From microvolts at the file's rate to the model's input at the model's rate, labels staying on their samples.

Order: band-pass and notch (one zero-phase cascade), rational resampling, standardization, clipping. Shapes: C
channels, N samples.
"""

from fractions import Fraction

import numpy as np
import numpy.typing as npt

from brainbrr.config.data import Preprocessing
from brainbrr.errors import DataError

# Of the zero-phase cascade, that is after filtering forwards and backwards: twice this order.
FILTER_ORDER = 4
NOTCH_QUALITY = 30.0
# Longer interpolation filters than these rates need would cost seconds; no known corpus comes near.
_LARGEST_RATIO_TERM = 5000
_QUARTILES_TO_DEVIATION = 1.3489795003921634  # interquartile range of a normal distribution of deviation 1


def resampling_ratio(rate: Fraction, settings: Preprocessing) -> Fraction:
    """Return model rate / file rate, exactly.

    >>> resampling_ratio(Fraction(250), Preprocessing())
    Fraction(128, 125)

    Raises:
        DataError: the ratio has no terms small enough for a polyphase filter.
    """
    ratio = Fraction(settings.rate_hz).limit_denominator(1000) / rate
    if max(ratio.numerator, ratio.denominator) > _LARGEST_RATIO_TERM:
        raise DataError(
            "no usable ratio between the file's rate and the model's",
            got=f"{float(rate):g} Hz to {settings.rate_hz:g} Hz = {ratio}",
            expected=f"terms up to {_LARGEST_RATIO_TERM}",
        )
    return ratio


def resampled_length(n_samples: int, ratio: Fraction) -> int:
    """Return the number of samples after resampling: those at times k / rate_hz within the recording."""
    return -(-n_samples * ratio.numerator // ratio.denominator)


def preprocess(signal_CN: npt.NDArray[np.float32], rate: Fraction, settings: Preprocessing) -> npt.NDArray[np.float32]:
    """Filter, resample, standardize and clip.

    Args:
        signal_CN: microvolts, (C, N), finite.
        rate: exact rate of the signal in Hz.
        settings: what to do.

    Returns:
        (C, N') float32 at ``settings.rate_hz``, finite; sample k lies at k / rate_hz seconds.

    Raises:
        DataError: the result is not finite, or the band lies above what the file can hold.
    """
    from scipy import signal as dsp  # most of a second, spared where everything comes from the cache

    sections = _sections(float(rate), settings)
    ratio = resampling_ratio(rate, settings)
    n_channels, n = signal_CN.shape
    out_CN = np.empty((n_channels, resampled_length(n, ratio)), np.float32)
    for channel, out in zip(signal_CN, out_CN, strict=True):  # one at a time: the intermediates are twice as wide
        # An odd reflection of two seconds settles the slowest section; short recordings reflect what they have.
        filtered = dsp.sosfiltfilt(sections, channel.astype(np.float64), padlen=min(n - 1, int(2 * rate)))
        out[:] = filtered if ratio == 1 else dsp.resample_poly(filtered, ratio.numerator, ratio.denominator)
    out_CN = _standardize(out_CN, settings)
    if settings.clip is not None:
        np.clip(out_CN, -settings.clip, settings.clip, out=out_CN)
    if not np.isfinite(out_CN).all():
        raise DataError("preprocessing gave samples that are not finite")
    return out_CN


def _sections(rate_hz: float, settings: Preprocessing) -> npt.NDArray[np.float64]:
    """Design the cascade for a file's rate: the band-pass, and a notch at the mains frequency and each harmonic."""
    from scipy import signal as dsp

    low_hz, high_hz = settings.band_hz
    nyquist_hz = rate_hz / 2
    if low_hz >= nyquist_hz:
        raise DataError(
            "the band lies above half the file's rate", got=f"{low_hz:g} Hz", expected=f"below {nyquist_hz:g} Hz"
        )
    if high_hz < nyquist_hz:
        parts = [dsp.butter(FILTER_ORDER, (low_hz, high_hz), "bandpass", fs=rate_hz, output="sos")]
    else:  # the file holds nothing above the band
        parts = [dsp.butter(FILTER_ORDER, low_hz, "highpass", fs=rate_hz, output="sos")]
    if settings.notch_hz is not None:
        harmonic_hz = float(settings.notch_hz)
        while harmonic_hz < nyquist_hz:
            parts.append(dsp.tf2sos(*dsp.iirnotch(harmonic_hz, NOTCH_QUALITY, fs=rate_hz)))
            harmonic_hz += settings.notch_hz
    return np.concatenate(parts)


def _standardize(signal_CN: npt.NDArray[np.float32], settings: Preprocessing) -> npt.NDArray[np.float32]:
    if settings.standardize == "none":
        return signal_CN
    if settings.standardize == "robust":
        low, center, high = np.quantile(signal_CN, [0.25, 0.5, 0.75], axis=1, keepdims=True)
        scale = (high - low) / _QUARTILES_TO_DEVIATION
    else:
        center, scale = signal_CN.mean(1, keepdims=True), signal_CN.std(1, keepdims=True)
    # A channel that is flat (an electrode off) stays flat: it has no scale to divide by.
    scale[scale < 1e-6] = 1.0
    return np.asarray((signal_CN - center) / scale, dtype=np.float32)
