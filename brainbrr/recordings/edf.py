"""Read the wanted channels of an EDF file in microvolts, and refuse what would be read wrongly without a word."""

import logging
import warnings
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

from brainbrr import montage as montages
from brainbrr.errors import DataError
from brainbrr.recordings.header import check_channels, read_header
from brainbrr.recordings.types import Located

log = logging.getLogger(__name__)

# Half of the samples of scalp EEG lie within tens of microvolts. These bounds are a factor of a thousand away on
# either side: only a wrong unit or scale crosses them.
SMALLEST_SPREAD_UV = 0.01
LARGEST_SPREAD_UV = 50_000.0


@dataclass(frozen=True)
class EdfFacts:
    """What a model-independent look at a file's header says."""

    n_samples: int
    rate: Fraction
    interpolated: tuple[str, ...]


def read_facts(path: Path, montage: str = "referential") -> EdfFacts:
    """Read a header only, with every check that needs no samples.

    Raises:
        DataError: the file would be refused by :func:`read_recording` too.
    """
    header = read_header(path)
    derivation = montages.derive(header.labels, montage, where=path)
    rate, n_samples = check_channels(header, derivation.sources)
    return EdfFacts(n_samples, rate, derivation.interpolated)


def read_recording(
    recording: Located | Path | str, montage: str = "referential"
) -> tuple[npt.NDArray[np.float32], Fraction]:
    """Read a recording's montage.

    Returns:
        The signal (19, N) in microvolts, float32, in the order of ``MONTAGES[montage]``, and the exact rate in Hz.

    Raises:
        DataError: the file is damaged, lacks channels, or its samples cannot be scalp EEG in microvolts.
    """
    path = recording.path if isinstance(recording, Located) else Path(recording)
    header = read_header(path)
    derivation = montages.derive(header.labels, montage, where=path)
    rate, n_samples = check_channels(header, derivation.sources)
    wanted = set(derivation.labels)
    # MNE returns every channel whose label is wanted, doubles included, in the file's order.
    included = [place for place, label in enumerate(header.labels) if label in wanted]
    all_CN = _read_microvolts(path, sorted(wanted), len(included), n_samples)
    signal_CN = all_CN[[included.index(place) for place in derivation.sources]]
    _check_samples(signal_CN, derivation.labels, path)
    if derivation.interpolated:
        log.debug("%s: interpolated %s", path, ", ".join(derivation.interpolated))
    return derivation.apply(signal_CN), rate


def _read_microvolts(path: Path, labels: list[str], n_channels: int, n_samples: int) -> npt.NDArray[np.float32]:
    import mne  # a third of a second, spared where everything comes from the cache

    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            raw = mne.io.read_raw_edf(
                path, include=labels, stim_channel=None, preload=False, encoding="latin1", verbose="ERROR"
            )
            volts_CN = raw.get_data(verbose="ERROR")
    except (ValueError, AssertionError, IndexError, KeyError, TypeError, OverflowError, RuntimeError, OSError) as error:
        # MNE has no exception of its own for a damaged file.
        raise DataError(f"MNE cannot read it: {error or type(error).__name__}", where=path) from error
    for warning in caught:
        log.debug("%s: %s", path, warning.message)
    if volts_CN.shape != (n_channels, n_samples):
        raise DataError(
            "MNE read another shape than the header declares",
            where=path,
            got=volts_CN.shape,
            expected=(n_channels, n_samples),
        )
    volts_CN *= 1e6
    return np.asarray(volts_CN, dtype=np.float32)


def _check_samples(signal_CN: npt.NDArray[np.float32], labels: tuple[str, ...], path: Path) -> None:
    if not np.isfinite(signal_CN).all():
        raise DataError("samples that are not finite", where=path)
    # A thousand samples evenly over the file are enough for an order of magnitude.
    sample = signal_CN[:, :: max(1, signal_CN.shape[1] // 1000)]
    low, high = np.quantile(sample, [0.25, 0.75], axis=1)
    spread = high - low
    if (spread > LARGEST_SPREAD_UV).any():
        worst = int(spread.argmax())
        raise DataError(
            "far too large for scalp EEG in microvolts: a wrong unit or scale",
            where=f"{path}: channel {labels[worst]!r}",
            got=f"an interquartile range of {spread[worst]:.3g} uV",
            expected=f"below {LARGEST_SPREAD_UV:g}",
        )
    deviation = sample.std(1).max()
    if deviation < SMALLEST_SPREAD_UV:
        raise DataError(
            "flat or far too small for scalp EEG in microvolts: no signal, or a wrong unit or scale",
            where=path,
            got=f"a standard deviation of {deviation:.3g} uV at most",
            expected=f"above {SMALLEST_SPREAD_UV:g} in one channel at least",
        )
