import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from brainbrr.errors import NonFiniteError
from brainbrr.scoring import SampleTally
from brainbrr.scoring.samples import TALLY_BINS, TALLY_LIMIT, rank_scores, reliability


def drawn(seed, n=5000, share=0.05):
    generator = np.random.default_rng(seed)
    label = generator.random(n) < share
    return label, (generator.normal(-3, 2, n) + 3 * label).astype(np.float32)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.01, 0.1, 0.5]))
def test_the_tally_agrees_with_scikit_learn(seed, share):
    label, logit = drawn(seed, share=share)
    label[:2] = True, False
    tally = SampleTally()
    tally.add(logit, label)
    auroc, auprc = tally.scores()
    ties = np.floor((logit.astype(float) + TALLY_LIMIT) / (2 * TALLY_LIMIT) * TALLY_BINS)
    assert auroc.value == pytest.approx(roc_auc_score(label, ties), abs=1e-12)
    assert auprc.value == pytest.approx(average_precision_score(label, ties), abs=1e-12)
    # A tie is half a pair in the right order: the error is at most half the pairs that share a bin.
    tied = float(tally.counts[0] @ tally.counts[1]) / (label.sum() * (~label).sum())
    assert abs(auroc.value - roc_auc_score(label, logit)) <= tied / 2 + 1e-12
    assert tied < 1e-3
    assert auroc.counts == {"positive": label.sum(), "negative": (~label).sum()}


def test_the_tally_loses_little():
    label, logit = drawn(0, n=200_000)
    tally = SampleTally()
    tally.add(logit, label)
    auroc, auprc = tally.scores()
    assert auroc.value == pytest.approx(roc_auc_score(label, logit), abs=1e-6)
    assert auprc.value == pytest.approx(average_precision_score(label, logit), abs=1e-4)


def test_the_tally_is_exact_on_ties():
    label = np.array([1, 0, 1, 0, 0, 1, 1, 0], dtype=bool)
    logit = np.array([2, 2, 1, 1, -1, -1, 30, -40], dtype=np.float32)
    tally = SampleTally()
    tally.add(logit, label)
    auroc, auprc = tally.scores()
    assert auroc.value == pytest.approx(roc_auc_score(label, logit), abs=1e-12)
    assert auprc.value == pytest.approx(average_precision_score(label, logit), abs=1e-12)


def test_tallies_of_several_processes_add_up():
    label, logit = drawn(0)
    whole, first, second = SampleTally(), SampleTally(), SampleTally()
    whole.add(logit.reshape(50, 100), label.reshape(50, 100).astype(np.float32))
    first.add(logit[:1234], label[:1234])
    second.add(logit[1234:], label[1234:])
    first.counts += second.counts
    assert first.scores() == whole.scores()


def test_invalid_samples_do_not_count():
    label, logit = drawn(1)
    valid = np.arange(len(label)) % 3 > 0
    spoiled = np.where(valid, logit, np.nan)
    masked, plain = SampleTally(), SampleTally()
    masked.add(spoiled, label, valid)
    plain.add(logit[valid], label[valid])
    assert masked.scores() == plain.scores()


def test_a_logit_that_is_not_finite_is_refused():
    with pytest.raises(NonFiniteError, match="2 samples"):
        SampleTally().add([0.0, np.nan, np.inf], [0, 1, 1])


@pytest.mark.parametrize(
    ("label", "reason"),
    [([], "no positive and negative sample"), ([True, True], "no negative sample"), ([False], "no positive sample")],
)
def test_one_class_is_undefined_with_the_reason(label, reason):
    tally = SampleTally()
    tally.add(np.zeros(len(label)), label)
    label = np.array(label, dtype=bool)
    for score in (*tally.scores(), *rank_scores(label, np.zeros(len(label), np.float32))):
        assert math.isnan(score.value)
        assert score.reason == reason
        assert sum(score.counts.values()) == len(label)


def test_ranks_by_hand():
    label = np.array([False, False, True, True])
    auroc, auprc = rank_scores(label, np.array([0.1, 0.4, 0.35, 0.8], np.float32))
    assert auroc.value == 0.75
    assert auprc.value == pytest.approx((1 + 2 / 3) / 2)


def test_calibration_by_hand():
    probability = np.array([0.1, 0.2, 0.3, 0.8, 1.0], np.float32)
    label = np.array([False, True, False, True, True])
    bins = reliability(label, probability, bins=2)
    np.testing.assert_allclose(bins.confidence, [0.2, 0.9], rtol=1e-6)
    np.testing.assert_allclose(bins.frequency, [1 / 3, 1.0])
    assert bins.counts.tolist() == [3, 2]
    assert bins.error().value == pytest.approx((3 * (1 / 3 - 0.2) + 2 * 0.1) / 5)


@given(st.integers(0, 2**32 - 1), st.integers(2, 20))
def test_adaptive_bins_hold_equally_many_samples(seed, n_bins):
    generator = np.random.default_rng(seed)
    probability = generator.random(1000, dtype=np.float32) ** 4
    bins = reliability(generator.random(1000) < probability, probability, n_bins, "adaptive")
    assert bins.counts.sum() == 1000
    assert bins.counts.max() - bins.counts.min() <= 2


def test_calibrated_probabilities_have_a_small_error_and_shifted_ones_the_shift():
    generator = np.random.default_rng(0)
    probability = generator.random(200_000, dtype=np.float32) * 0.8
    label = generator.random(200_000) < probability
    for binning in ("uniform", "adaptive"):
        assert reliability(label, probability, 15, binning).error().value < 0.005
        assert reliability(label, probability + 0.2, 15, binning).error().value == pytest.approx(0.2, abs=0.005)


def test_no_sample_has_no_calibration():
    score = reliability(np.zeros(0, bool), np.zeros(0, np.float32), 15, "adaptive").error()
    assert math.isnan(score.value)
    assert score.reason == "no sample"
