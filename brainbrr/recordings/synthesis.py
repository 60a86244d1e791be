"""Make scalp EEG that looks like it to a data path: background, artifacts, and rhythmic evolving seizures.

Every number comes from a seed. The signals test machinery and show whether a model learns at all; they are no data
for research. Legend: C the 19 electrodes, N samples; microvolts.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from brainbrr.montage import CHANNELS, N_CHANNELS, POSITIONS

Signal = npt.NDArray[np.float64]

_XYZ = np.array([POSITIONS[name] for name in CHANNELS])
_DISTANCES = np.linalg.norm(_XYZ[:, None] - _XYZ[None], axis=2)
# The skull blurs: neighbors share most of their signal.
_BLUR = np.exp(-((_DISTANCES / 0.5) ** 2))
_BLUR /= np.linalg.norm(_BLUR, axis=1, keepdims=True)


@dataclass(frozen=True)
class Morphology:
    """How one patient's seizures look."""

    focus: int
    """Electrode where they start."""
    start_hz: float
    end_hz: float
    amplitude_uv: float
    harmonics: tuple[float, float]
    """Weights of the second and third harmonic: the spike in a spike and wave."""
    spread_s: float
    """Time until the far side joins in."""


def draw_morphology(random: np.random.Generator) -> Morphology:
    """Draw a patient's seizures: frequency falls, amplitude rises, the field spreads."""
    start_hz = random.uniform(3.0, 7.0)
    return Morphology(
        focus=int(random.integers(N_CHANNELS)),
        start_hz=start_hz,
        end_hz=start_hz * random.uniform(0.4, 0.7),
        amplitude_uv=random.uniform(90, 220),
        harmonics=(random.uniform(0.1, 0.6), random.uniform(0.0, 0.4)),
        spread_s=random.uniform(4, 12),
    )


def background(random: np.random.Generator, n: int, rate_hz: float, mains_hz: float = 60.0) -> Signal:
    """Make (C, N) of background: a 1/f spectrum, alpha, blinks, muscle and mains."""
    time_s = np.arange(n) / rate_hz
    signal_CN = _BLUR @ _pink(random, N_CHANNELS, n, rate_hz) * random.uniform(11, 16)
    signal_CN += _pink(random, N_CHANNELS, n, rate_hz) * 4
    posterior = np.clip(-_XYZ[:, 1] + 0.1, 0, 1)[:, None]
    waxing = np.clip(np.sin(2 * np.pi * time_s / random.uniform(6, 12) + random.uniform(0, 6)), 0, 1)
    wander = np.cumsum(random.normal(0, 0.02, n)) / np.sqrt(rate_hz)
    signal_CN += posterior * waxing * 28 * np.sin(2 * np.pi * random.uniform(8.5, 11.5) * time_s + wander)
    _add_blinks(random, signal_CN, rate_hz)
    _add_muscle(random, signal_CN, rate_hz)
    pickup = random.uniform(0.5, 6, (N_CHANNELS, 1))
    signal_CN += pickup * np.sin(2 * np.pi * mains_hz * time_s + random.uniform(0, 6))
    return np.asarray(signal_CN)


def add_seizure(
    random: np.random.Generator, signal_CN: Signal, rate_hz: float, onset_s: float, offset_s: float, form: Morphology
) -> None:
    """Add one seizure between two times: exactly zero outside them."""
    first, last = round(onset_s * rate_hz), round(offset_s * rate_hz)
    time_s = np.arange(last - first) / rate_hz
    duration_s = offset_s - onset_s
    slowing = (time_s / duration_s) ** 0.7
    frequency_hz = form.start_hz + (form.end_hz - form.start_hz) * slowing
    jitter = np.cumsum(random.normal(0, 0.25, len(time_s))) / np.sqrt(rate_hz)
    phase = 2 * np.pi * np.cumsum(frequency_hz) / rate_hz + jitter
    wave = np.sin(phase) + form.harmonics[0] * np.sin(2 * phase + 1) + form.harmonics[1] * np.sin(3 * phase + 2)
    envelope = np.minimum(1, time_s / 3 + 0.25) * np.minimum(1, (duration_s - time_s) / 1.5) * (0.55 + 0.45 * slowing)
    reach = 0.6 + 1.6 * np.minimum(1, time_s / form.spread_s)
    field_CN = np.exp(-((_DISTANCES[form.focus][:, None] / reach) ** 2))
    signal_CN[:, first:last] += form.amplitude_uv * field_CN * envelope * wave


def _pink(random: np.random.Generator, rows: int, n: int, rate_hz: float) -> Signal:
    """Make noise of deviation 1 whose power falls with 1/f above half a hertz."""
    frequency_hz = np.fft.rfftfreq(n, 1 / rate_hz)
    shape = 1 / np.sqrt(np.maximum(frequency_hz, 0.5))
    shape[0] = 0
    spectrum = (random.normal(size=(rows, len(shape))) + 1j * random.normal(size=(rows, len(shape)))) * shape
    noise = np.fft.irfft(spectrum, n, axis=1)
    return np.asarray(noise / noise.std(axis=1, keepdims=True))


def _add_blinks(random: np.random.Generator, signal_CN: Signal, rate_hz: float) -> None:
    width = int(0.35 * rate_hz)
    shape = np.hanning(width)
    front = np.clip(_XYZ[:, 1] - 0.35, 0, 1)[:, None] * 2
    for start in _bursts(random, signal_CN.shape[1], width, every=int(5 * rate_hz)):
        signal_CN[:, start : start + width] += front * shape * random.uniform(60, 140)


def _add_muscle(random: np.random.Generator, signal_CN: Signal, rate_hz: float) -> None:
    width = int(1.2 * rate_hz)
    sides = np.clip(np.abs(_XYZ[:, 0]) - 0.4, 0, 1)[:, None]
    for start in _bursts(random, signal_CN.shape[1], width, every=int(20 * rate_hz)):
        noise = np.diff(random.normal(size=(N_CHANNELS, width + 1)), axis=1)
        signal_CN[:, start : start + width] += sides * np.hanning(width) * noise * random.uniform(10, 30)


def _bursts(random: np.random.Generator, n: int, width: int, every: int) -> list[int]:
    if n <= width:
        return []
    return [int(start) for start in random.integers(0, n - width, size=max(1, n // every))]
