"""What a detector refuses, in one sentence, and what the check costs compilers and fake tensors: nothing."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from brainbrr.errors import ModelInputError
from brainbrr.models import build_detector
from brainbrr.models.door import admit


@pytest.fixture
def detector(config_of):
    return build_detector(config_of({"name": "unet", "channels": [64]})).eval()


def poisoned(value):
    signal = torch.zeros(2, 19, 64)
    signal[1, 4, 7] = value
    signal[1, 5, 0] = value
    return signal


REFUSED = {
    "channels": (torch.zeros(2, 18, 64), "wrong shape (got (2, 18, 64), expected (batch, 19, samples))"),
    "unbatched": (torch.zeros(19, 64), "wrong shape (got (19, 64), expected (batch, 19, samples))"),
    "transposed": (torch.zeros(2, 64, 19), "wrong shape (got (2, 64, 19), expected (batch, 19, samples))"),
    "no window": (torch.zeros(0, 19, 64), "wrong shape (got (0, 19, 64), expected (batch, 19, samples))"),
    "no sample": (torch.zeros(2, 19, 0), "wrong length (got 0 samples, expected a multiple of 16)"),
    "length": (torch.zeros(2, 19, 65), "wrong length (got 65 samples, expected a multiple of 16)"),
    "float64": (
        torch.zeros(2, 19, 64).double(),
        "wrong dtype (got torch.float64, expected torch.float32, as the weights)",
    ),
    "int16": (
        torch.zeros(2, 19, 64).short(),
        "wrong dtype (got torch.int16, expected torch.float32, as the weights)",
    ),
    "nan": (
        poisoned(float("nan")),
        "values that are not finite (got 2 of 2432, the first in window 1, channel 4, sample 7)",
    ),
    "inf": (
        poisoned(-float("inf")),
        "values that are not finite (got 2 of 2432, the first in window 1, channel 4, sample 7)",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(detector, case):
    signal, message = REFUSED[case]
    with pytest.raises(ModelInputError) as refused:
        detector(signal)
    assert str(refused.value) == f"signal: {message}"


def test_a_good_signal_passes_unchanged_and_carries_gradients():
    signal = torch.randn(2, 19, 32, requires_grad=True)
    admitted = admit(signal, 19, torch.float32)
    assert torch.equal(admitted, signal)
    (3 * admitted).sum().backward()
    assert (signal.grad == 3).all()


def test_a_model_in_float64_takes_float64(detector):
    assert detector.double()(torch.zeros(1, 19, 32, dtype=torch.float64)).dtype == torch.float64


def test_fake_tensors_pass(detector):
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert detector(torch.empty(2, 19, 64)).shape == (2, 64)


def test_the_check_is_one_node_for_tracers():
    graph = torch.export.export(_Door(), (torch.zeros(1, 19, 32),)).graph
    assert [node.target for node in graph.nodes if node.op == "call_function"] == [torch.ops.brainbrr.finite.default]


class _Door(torch.nn.Module):
    def forward(self, signal):
        return admit(signal, 19, torch.float32)
