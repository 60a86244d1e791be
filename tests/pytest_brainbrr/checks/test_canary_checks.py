"""The canary corpus: what a batch shows of it, and the verdict on it."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from data_traces import Story, fact

from pytest_brainbrr.canary import CHANNELS, FILES, LOUD, Canary, tone_hz
from pytest_brainbrr.checks import canary
from pytest_brainbrr.checks import patients as names
from pytest_brainbrr.checks.base import Check, Vacuous
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


def delivered(recording, signal):
    """Show the canary's observer a window, and return its event and the facts of the batch."""
    story, tensor = Story(), torch.tensor(signal, dtype=torch.float32)[None]
    Canary(SimpleNamespace(emit=story.add)).look([("signal", tensor)])
    digest = story.events[-1]["result"]["digest"]
    return story.events[-1], fact("signal", [recording.number], shape=(19, 9), digest=digest)


def windows(made, *, sides=None, configured=None):
    """Tell of one window of each recording: (recording, signal) pairs, trained on unless ``sides`` says held-out."""
    story = Story()
    for place, (recording, signal) in enumerate(made):
        probe, part = delivered(recording, signal)
        held_out = sides is not None and sides[place] == "dev"
        loader = "l2" if held_out else "l1"
        batch = story.batch([place], tensors=[part], loader=loader, epoch=f"{loader}-i1", position=place)
        story.add("probe", name="canary", result=probe["result"])
        call = story.forward(batch, training=not held_out, grad=not held_out)
        if not held_out:
            story.backward(call)
    if configured:
        scalars = {"config/preprocessing/standardize": configured}
        story.add("checkpoint_write", path="a.pt", final="a.pt", scalars=scalars, tensors={"w": {}})
    return story.trace()


def minute(recording, change):
    """A window of a recording, as ``change(signal in microvolts, gain)`` makes it, padded to a minute."""
    rows = [change(recording.signal(channel, RATE_HZ), recording.gain_uv(channel)) for channel in range(len(CHANNELS))]
    found = np.zeros((len(CHANNELS), RATE_HZ * WINDOW_S))
    kept = np.stack(rows)[:, : found.shape[1]]
    found[:, : kept.shape[1]] = kept
    return found


def robust(signal, _):
    return signal / np.subtract(*np.quantile(signal, [0.75, 0.25]))


WAYS = {
    "robust": robust,
    "zscore": lambda signal, _: signal / signal.std(),
    "none": lambda signal, _: signal,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("told", [True, False])
def test_every_way_to_standardize_passes_where_it_is_configured(way, told):
    made = [(recording, minute(recording, WAYS[way])) for recording in FILES]
    trace = windows(made, configured=way if told else None)
    assert not list(CHECKS["canary-signal"].judge({"canary": trace}, TARGET))


@pytest.mark.parametrize(
    ("change", "configured"),
    [
        (lambda signal, gain: signal / 40, "robust"),  # statistics of all recordings
        (lambda signal, gain: signal / signal.std() * gain, "zscore"),
        (lambda signal, gain: signal * 1e-6, "none"),
        (robust, "none"),
        (lambda signal, gain: signal / 40, None),
    ],
)
def test_other_sizes_fail(change, configured):
    trace = windows([(recording, minute(recording, change)) for recording in FILES], configured=configured)
    assert [one.where for one in CHECKS["canary-signal"].judge({"canary": trace}, TARGET)] == ["scale"]


def test_padding_is_told_from_quiet_signal():
    recording = FILES[2]
    label = np.zeros(RATE_HZ * WINDOW_S)
    start, stop = (round(edge * RATE_HZ) for edge in recording.seizure_s)
    label[start:stop] = 1
    signal = minute(recording, robust)
    assert judge("canary-labels", signal, label) == []
    label[-RATE_HZ:] = 1
    assert judge("canary-labels", signal, label) == ["labels"]


def patients(sides):
    check = next(check for check in names.CHECKS if check.id == "split-patients")
    trace = windows([(recording, minute(recording, robust)) for recording in FILES], sides=sides)
    return [finding.where for finding in check.judge({"canary": trace, "straight": Story().trace()}, TARGET)]


def test_patient_on_both_sides_is_told_by_the_windows():
    assert patients([recording.split for recording in FILES]) == []
    assert patients(["train", "dev", "train", "train", "dev"]) == ["patients of the canary recordings"]


def test_check_without_anything_to_judge_is_asked_about_the_canary():
    def judge_it(traces, _):
        if traces["straight"].process["data"] != "canary":
            raise Vacuous("no positive label")
        return []

    check = Check("any", "title", "group", judge_it)
    straight, known = Story().trace(), Story()
    known.events[0]["data"] = "canary"
    assert check.run({"straight": straight}, TARGET).status == "vacuous"
    assert check.run({"straight": straight, "canary": known.trace()}, TARGET).status == "passed"
    assert check.run({"straight": straight, "canary": straight}, TARGET).reason == "no positive label"
