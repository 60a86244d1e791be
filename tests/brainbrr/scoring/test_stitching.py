import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainbrr.errors import DataError, NonFiniteError
from brainbrr.scoring import Event, Stitcher, Traces


def stitcher(n_samples=10, **options):
    return Stitcher("p/r.edf", rate_hz=1.0, n_samples=n_samples, **options)


def test_overlapping_windows_are_averaged_and_gaps_are_not_valid():
    stitch = stitcher()
    stitch.add(0, [0.2] * 4)
    stitch.add(2, [0.6] * 4)
    trace = stitch.trace()
    np.testing.assert_allclose(trace.probability_N[:6], [0.2, 0.2, 0.4, 0.4, 0.6, 0.6], rtol=1e-6)
    assert np.isnan(trace.probability_N[6:]).all()
    assert trace.valid_N.tolist() == [True] * 6 + [False] * 4
    assert trace.uncovered_s == 4.0


@given(st.randoms(use_true_random=False), st.integers(1, 7), st.integers(1, 9))
def test_the_order_of_windows_does_not_matter_and_every_sample_is_the_mean_of_its_windows(random, stride, length):
    values = np.linspace(0, 1, 64)
    windows = [(start, values[start : start + length]) for start in range(0, 40, stride)]
    one, other = stitcher(60), stitcher(60)
    for window in windows:
        one.add(*window)
    random.shuffle(windows)
    for window in windows:
        other.add(*window)
    np.testing.assert_allclose(one.trace().probability_N, other.trace().probability_N, rtol=1e-6)
    valid = one.trace().valid_N
    np.testing.assert_allclose(one.trace().probability_N[valid], values[:60][valid], rtol=1e-6)
    expected = {start + i for start, window in windows for i in range(len(window))}
    assert set(np.flatnonzero(valid)) == {i for i in expected if i < 60}


def test_padding_and_what_hangs_over_the_ends_is_ignored():
    stitch = stitcher(4)
    stitch.add(-2, [0.9, 0.9, 0.1, 0.2])
    stitch.add(2, [0.3, 0.4, 0.9], np.array([True, True, False]))
    np.testing.assert_allclose(stitch.trace().probability_N, [0.1, 0.2, 0.3, 0.4], rtol=1e-6)
    stitch.add(2, [np.nan, np.nan], np.array([False, False]))
    np.testing.assert_allclose(stitch.trace().probability_N, [0.1, 0.2, 0.3, 0.4], rtol=1e-6)


def test_the_trace_is_averaged_over_whole_blocks_and_keeps_the_duration():
    stitch = Stitcher("r", rate_hz=250.0, n_samples=101, trace_rate_hz=16.0)
    assert stitch.factor == 15
    stitch.add(0, np.arange(101) / 101)
    trace = stitch.trace()
    assert trace.rate_hz == 250 / 15
    assert len(trace.probability_N) == 7
    np.testing.assert_allclose(trace.probability_N[[0, -1]], [7 / 101, 95 / 101], rtol=1e-6)
    assert trace.duration_s == 101 / 250


@given(st.integers(1, 9), st.integers(1, 50), st.integers(-5, 40), st.integers(1, 30))
def test_blocks_are_means_of_what_the_windows_said_in_them(factor, n_samples, start, length):
    if start >= n_samples or start + length <= 0:
        return
    generator = np.random.default_rng(n_samples)
    windows = [(0, generator.random(n_samples), generator.random(n_samples) < 0.7)]
    windows += [(start, generator.random(length), generator.random(length) < 0.7)]
    stitch = Stitcher("r", rate_hz=float(factor), n_samples=n_samples, trace_rate_hz=1.0)
    said = [[] for _ in range(-(-n_samples // factor))]
    for first, values, valid in windows:
        stitch.add(first, values, valid)
        for k, value, keep in zip(range(first, first + len(values)), values, valid, strict=True):
            if keep and 0 <= k < n_samples:
                said[k // factor].append(value)
    expected = [np.mean(values) if values else np.nan for values in said]
    np.testing.assert_allclose(stitch.trace().probability_N, expected, rtol=1e-6)


def test_the_whole_factor_survives_rounding():
    assert Stitcher("r", rate_hz=0.3, n_samples=9, trace_rate_hz=0.1).factor == 3
    assert Stitcher("r", rate_hz=10.0, n_samples=9, trace_rate_hz=16.0).factor == 1


def test_labels_lie_on_the_samples_that_a_reference_touches():
    references = [Event(1.0, 2.0), Event(3.5, 4.0)]
    stitch = Stitcher("r", rate_hz=8.0, n_samples=40, trace_rate_hz=2.0, references=references)
    stitch.add(0, np.zeros(40))
    assert np.flatnonzero(stitch.trace().label_N).tolist() == [2, 3, 7]


@pytest.mark.parametrize(
    ("start", "values", "error", "message"),
    [
        (0, [0.1, np.nan], NonFiniteError, "not finite"),
        (0, [0.1, 1.5], DataError, "Apply the sigmoid"),
        (0, [-3.0, 0.5], DataError, "Apply the sigmoid"),
        (10, [0.1, 0.2], DataError, "outside the recording"),
        (-2, [0.1, 0.2], DataError, "outside the recording"),
        (0, [[0.1, 0.2]], DataError, "wrong shapes"),
    ],
)
def test_wrong_windows_are_refused_by_name(start, values, error, message):
    with pytest.raises(error, match=message) as caught:
        stitcher().add(start, values)
    assert "p/r.edf" in str(caught.value)


def test_a_recording_without_annotation_has_no_labels():
    with pytest.raises(DataError, match="scores need the recording's annotation"):
        _ = stitcher().trace().label_N


def test_a_recording_stitched_twice_is_refused():
    stitch = stitcher()
    stitch.add(0, np.zeros(10))
    with pytest.raises(DataError, match="stitched twice"):
        Traces("dev", (stitch.trace(), stitch.trace()))


def test_seconds_without_a_window_are_said(caplog):
    stitch = stitcher()
    stitch.add(0, np.zeros(7))
    Traces("dev", (stitch.trace(),))
    assert "3.0 s of 1 recordings in no window: p/r.edf" in caplog.text
