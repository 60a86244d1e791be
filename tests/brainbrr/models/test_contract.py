"""What every registered encoder must do inside a detector, ours and the example package's alike.

A new encoder must enter ``SMALL`` here, or the first test fails.
"""

import copy
import io
import json
import subprocess
import sys

import pytest
import torch

from brainbrr.config.encoders import encoder_class, encoder_names
from brainbrr.models import STRIDE, Encoder, build_detector
from pytest_brainbrr.encoders import encoder_targets

SMALL = {
    "tcn": {"name": "tcn", "channels": [8, 64], "blocks": 4},
    "tcn-causal": {"name": "tcn", "channels": [8, 64], "blocks": 4, "causal": True},
    "unet": {"name": "unet", "channels": [8, 16, 64]},
    "unet-group": {"name": "unet", "channels": [8, 16, 64], "norm": "group"},
    "patch": {"name": "patch", "width": 64, "layers": 1},
}
LENGTH = 512

pytestmark = pytest.mark.usefixtures("patch_encoder")


@pytest.fixture(params=SMALL)
def detector(request, config_of):
    torch.manual_seed(0)
    return build_detector(config_of(SMALL[request.param]), seizure_share=0.05)


def signal(batch=2, length=LENGTH):
    return torch.randn(batch, 19, length, generator=torch.Generator().manual_seed(3))


def test_every_registered_encoder_is_here():
    assert {tree["name"] for tree in SMALL.values()} == set(encoder_names())


def test_every_registered_encoder_is_smoke_tested():
    assert {target.name for target in encoder_targets()} == set(encoder_names())


def test_shapes_at_every_stage(detector):
    shapes = {}
    for name in ("encoder", "mamba", "head"):
        module = detector.get_submodule(name)
        module.register_forward_hook(lambda _, __, out, name=name: shapes.update({name: tuple(out.shape)}))
    for length in (LENGTH, STRIDE * 33, STRIDE):
        logits = detector.eval()(signal(length=length))
        width = detector.encoder.out_channels
        assert shapes == {
            "encoder": (2, width, length // STRIDE),
            "mamba": (2, length // STRIDE, width),
            "head": (2, length),
        }
        assert logits.shape == (2, length)
        assert logits.dtype == torch.float32


def test_it_keeps_to_the_protocol(detector):
    assert isinstance(detector.encoder, Encoder)
    assert encoder_class(detector.encoder.Config().name) is type(detector.encoder)


def test_every_parameter_gets_a_finite_gradient(detector):
    detector(signal()).square().mean().backward()
    unreached = [name for name, p in detector.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert unreached == []
    assert [name for name, p in detector.named_parameters() if not p.grad.any()] == []


def test_every_sample_reaches_its_own_logit(detector):
    """Labels stay on their samples: the logit of a sample answers to that sample."""
    detector = detector.eval()
    for sample in (0, 100, LENGTH - 1):
        x = signal(1).requires_grad_()
        detector(x)[0, sample].backward()
        assert x.grad[0, :, sample].any()


def test_windows_of_a_batch_are_independent_in_eval_mode(detector):
    detector = detector.eval()
    batch = signal(3)
    with torch.no_grad():
        together = detector(batch)
        for window in range(3):
            torch.testing.assert_close(detector(batch[window : window + 1])[0], together[window], rtol=1e-4, atol=1e-5)
        poisoned = batch.clone()
        poisoned[1] = 1e3
        torch.testing.assert_close(detector(poisoned)[[0, 2]], together[[0, 2]], rtol=1e-4, atol=1e-5)


def test_the_same_seed_gives_the_same_training_step(detector):
    results = []
    for twin in (copy.deepcopy(detector), detector):
        torch.manual_seed(5)
        logits = twin.train()(signal())
        logits.sum().backward()
        results.append((logits, [p.grad for p in twin.parameters()]))
    assert torch.equal(results[0][0], results[1][0])
    assert all(torch.equal(one, other) for one, other in zip(results[0][1], results[1][1], strict=True))


def test_saved_and_loaded_it_is_the_same(detector, config_of, request):
    detector(signal())  # moves the buffers
    stored = io.BytesIO()
    torch.save(detector.state_dict(), stored)
    stored.seek(0)
    torch.manual_seed(99)
    other = build_detector(config_of(SMALL[request.node.callspec.params["detector"]]))
    other.load_state_dict(torch.load(stored, weights_only=True), strict=True)
    with torch.no_grad():
        assert torch.equal(other.eval()(signal()), detector.eval()(signal()))


def test_bf16_autocast_is_close_to_float32(detector):
    detector = detector.eval()
    with torch.no_grad():
        exact = detector(signal())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = detector(signal())
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, rtol=0.05, atol=0.05)


def test_a_causal_encoder_looks_at_the_past_only(detector):
    encoder = detector.encoder.eval().double()
    x = signal(1).double()
    moved = x.clone()
    moved[..., LENGTH // 2 :] += 1
    with torch.no_grad():
        change = (encoder(moved) - encoder(x)).abs().amax((0, 1))
    before = change[: LENGTH // 2 // STRIDE]
    assert change[LENGTH // 2 // STRIDE :].any()
    assert encoder.causal == (not before.any())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tcn", "unet"])
def test_it_compiles(name):
    """In a process of its own: what torch.compile leaves behind is not for other tests."""
    script = f"""
import json, torch, warnings
from brainbrr.config import config_from_mapping
from brainbrr.models import build_detector
tree = {{"encoder": {SMALL[name]!r}, "mamba": {{"layers": 1, "headdim": 16}}}}
torch.manual_seed(0)
model = build_detector(config_from_mapping({{"run": {{"name": "t", "output_dir": "o"}}, "model": tree}}, "t")).eval()
x = torch.randn(1, 19, 64)
explained = torch._dynamo.explain(model)(x)
torch._dynamo.reset()
compiled = torch.compile(model, backend="aot_eager")
close = torch.allclose(compiled(x), model(x), rtol=1e-4, atol=1e-5)
compiled(x).sum().backward()
gradients = all(p.grad is not None for p in model.parameters())
print(json.dumps({{"close": close, "gradients": gradients, "breaks": explained.graph_break_count}}))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {"close": True, "gradients": True, "breaks": 0}
