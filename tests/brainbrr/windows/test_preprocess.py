"""Every setting changes the signal, and nothing moves in time."""

from fractions import Fraction

import numpy as np
import pytest

from brainbrr.config.data import Preprocessing
from brainbrr.errors import DataError
from brainbrr.windows.preprocess import preprocess, resampled_length, resampling_ratio

RATES = [Fraction(200), Fraction(250), Fraction(256), Fraction(400), Fraction(500), Fraction(512), Fraction(1000),
         Fraction(39936, 100), Fraction(100)]  # fmt: skip


def brain(seconds=30, rate=256, seed=0):
    random = np.random.default_rng(seed)
    time = np.arange(int(seconds * rate)) / rate
    signal = np.cumsum(random.normal(0, 3, (19, len(time))), axis=1) + 40 * np.sin(2 * np.pi * 60 * time) + 500
    signal[:, 1000] += 5000
    return signal.astype(np.float32)


CHANGES = {
    "rate_hz": {"rate_hz": 128.0},
    "band_hz low": {"band_hz": (2.0, 100.0)},
    "band_hz high": {"band_hz": (0.5, 40.0)},
    "notch_hz": {"notch_hz": 50},
    "notch_hz off": {"notch_hz": None},
    "standardize": {"standardize": "zscore"},
    "standardize off": {"standardize": "none"},
    "clip": {"clip": 3.0},
    "clip off": {"clip": None},
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_key_changes_the_result(name):
    base, other = Preprocessing(), Preprocessing(**CHANGES[name])
    before, after = (preprocess(brain(), Fraction(256), settings) for settings in (base, other))
    assert before.shape != after.shape or np.abs(before - after).max() > 0.05


def test_the_changes_above_are_all_the_keys():
    assert {name.split()[0] for name in CHANGES} == set(Preprocessing.model_fields)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("model_hz", [256.0, 200.0, 128.0])
def test_a_burst_stays_on_its_time(rate, model_hz):
    seconds, center_s = 20, 8.37
    time_s = np.arange(int(seconds * rate)) / float(rate)
    burst = 100 * np.exp(-(((time_s - center_s) / 0.15) ** 2)) * np.cos(2 * np.pi * 12 * (time_s - center_s))
    settings = Preprocessing(rate_hz=model_hz, standardize="none", clip=None)
    out = preprocess(np.tile(burst, (19, 1)).astype(np.float32), rate, settings)
    assert out.shape[1] == resampled_length(len(time_s), resampling_ratio(rate, settings))
    power = out[0].astype(float) ** 2
    found = (power * np.arange(len(power))).sum() / power.sum()
    assert abs(found - center_s * model_hz) < 0.1
    assert abs(int(power.argmax()) - center_s * model_hz) <= 1


@pytest.mark.parametrize("rate", RATES)
def test_tones_keep_their_height_and_mains_vanish(rate):
    time_s = np.arange(int(30 * rate)) / float(rate)
    settings = Preprocessing(rate_hz=float(rate), standardize="none", clip=None, band_hz=(0.5, 45.0))
    middle = slice(len(time_s) // 4, -len(time_s) // 4)

    def height(hz):
        out = preprocess(np.tile(50 * np.sin(2 * np.pi * hz * time_s), (19, 1)).astype(np.float32), rate, settings)
        return out[:, middle].std() * np.sqrt(2)

    assert height(10) == pytest.approx(50, rel=0.02)
    assert height(0.02) < 0.5
    if rate > 120:
        assert height(60) < 0.5


@pytest.mark.parametrize("mains", [50, 60])
def test_harmonics_of_the_mains_vanish(mains):
    time_s = np.arange(512 * 30) / 512
    settings = Preprocessing(rate_hz=512.0, notch_hz=mains, band_hz=(0.5, 250.0), standardize="none", clip=None)
    for harmonic in range(1, 4):
        tone = np.tile(50 * np.sin(2 * np.pi * mains * harmonic * time_s), (19, 1)).astype(np.float32)
        assert np.abs(preprocess(tone, Fraction(512), settings)[:, 4096:-4096]).max() < 0.5
    other = np.tile(50 * np.sin(2 * np.pi * (mains + 20) * time_s), (19, 1)).astype(np.float32)
    assert np.abs(preprocess(other, Fraction(512), settings)[:, 4096:-4096]).max() > 45


@pytest.mark.parametrize("standardize", ["robust", "zscore"])
def test_standardized_channels_have_one_scale(standardize):
    signal = np.random.default_rng(0).normal(0, 1, (19, 5120)) * np.arange(1, 20)[:, None]
    out = preprocess(signal.astype(np.float32), Fraction(256), Preprocessing(standardize=standardize, clip=None))
    np.testing.assert_allclose(out.std(1), 1, rtol=0.1)
    np.testing.assert_allclose(np.median(out, 1), 0, atol=0.1)


def test_robust_scale_is_not_moved_by_artifacts():
    signal = np.random.default_rng(0).normal(0, 10, (19, 5120)).astype(np.float32)
    spoilt = signal.copy()
    spoilt[:, 2000:2020] += 3000
    scales = {}
    for standardize in ("robust", "zscore"):
        settings = Preprocessing(standardize=standardize)
        clean, dirty = (preprocess(s, Fraction(256), settings)[:, 4200:].std() for s in (signal, spoilt))
        scales[standardize] = dirty / clean
    assert scales["robust"] > 0.7 > 0.3 > scales["zscore"]


def test_flat_channels_stay_flat_and_finite():
    signal = brain()
    signal[3] = 77.0
    out = preprocess(signal, Fraction(256), Preprocessing())
    assert np.abs(out[3]).max() < 1e-3
    assert np.isfinite(out).all()


@pytest.mark.parametrize("n", [1, 2, 5, 40, 300])
def test_the_shortest_recordings_pass(n):
    signal = np.random.default_rng(0).normal(0, 10, (19, n)).astype(np.float32)
    out = preprocess(signal, Fraction(250), Preprocessing())
    assert out.shape == (19, resampled_length(n, Fraction(128, 125)))


def test_impossible_settings_are_refused():
    with pytest.raises(DataError, match="no usable ratio"):
        resampling_ratio(Fraction(100003, 401), Preprocessing())
    with pytest.raises(DataError, match="above half the file's rate"):
        preprocess(brain(), Fraction(256), Preprocessing(band_hz=(128.0, 130.0)))


def test_clip_holds():
    assert np.abs(preprocess(brain(), Fraction(256), Preprocessing(clip=2.0))).max() == 2.0
