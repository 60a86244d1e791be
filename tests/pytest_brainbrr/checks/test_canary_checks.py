"""The canary corpus: what a batch shows of it, and the verdict on it."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from data_traces import Story, fact

from pytest_brainbrr.canary import CHANNELS, LOUD, Canary, tone_hz
from pytest_brainbrr.checks import canary
from pytest_brainbrr.targets import Target

RATE_HZ, WINDOW_S = 256, 60
CHECKS = {check.id: check for check in canary.CHECKS}
TARGET = Target("any", train=print)


def window(onset_s, offset_s, *, order=None, rate_hz=RATE_HZ):
    """A minute of the corpus as a correct reader would hand it over: signal (19, T) and label (T,)."""
    time_s = np.arange(RATE_HZ * WINDOW_S) / rate_hz
    label = (time_s >= onset_s) & (time_s < offset_s)
    tones = np.stack([np.sin(2 * np.pi * tone_hz(channel) * time_s) for channel in order or range(len(CHANNELS))])
    return tones * np.where(label, LOUD, 1.0) / 5, label


def judge(check, signal, label):
    story = Story()
    parts = [fact("signal", [0], shape=(19, 9), digest="signal"), fact("label", [0], shape=(9,), digest="label")]
    story.batch([0], tensors=parts)
    call = story.forward(None, x=fact("0", [0], shape=(19, 9), digest="signal"))
    story.loss(call, parts[1])
    Canary(SimpleNamespace(emit=story.add)).look(
        [("signal", torch.tensor(signal, dtype=torch.float32)[None]), ("label", torch.tensor(label)[None].float())]
    )
    return [finding.where for finding in CHECKS[check].judge({"canary": story.trace()}, TARGET)]


@pytest.mark.parametrize("times", [(20, 41.5), (-5, 30), (40, 99), (-5, 99), (70, 80)])
def test_right_windows_pass(times):
    assert judge("canary-signal", *window(*times)) == []
    assert judge("canary-labels", *window(*times)) == []


def test_channels_in_the_order_of_the_file_fail():
    assert judge("canary-signal", *window(20, 40, order=range(18, -1, -1))) == ["channels"]


def test_resampling_left_out_fails():
    assert judge("canary-signal", *window(20, 40, rate_hz=512)) == ["time axis"]


@pytest.mark.parametrize("change", [lambda label: np.roll(label, 64), np.logical_not, np.zeros_like])
def test_labels_shifted_inverted_or_lost_fail(change):
    signal, label = window(20, 40)
    assert judge("canary-labels", signal, change(label)) == ["labels"]
