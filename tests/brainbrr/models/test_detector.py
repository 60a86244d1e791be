"""The detector as a whole: every key of its sections counts, and what goes wrong inside stays visible."""

import pytest
import torch

from brainbrr.config.model import Head, Mamba
from brainbrr.models import build_detector

ENCODER = {"name": "unet", "channels": [8, 64], "dropout": 0.0}
FLIPPED = {
    "layers": 2,
    "d_state": 24,
    "d_conv": 3,
    "expand": 4,
    "headdim": 8,
    "ngroups": 2,
    "chunk_size": 16,
    "dropout": 0.5,
    "kernel": "torch",
}
ROUNDING_ONLY = {"chunk_size", "kernel"}


def logits(config):
    torch.manual_seed(0)
    detector = build_detector(config)
    torch.manual_seed(1)
    return detector, detector(torch.randn(2, 19, 640))


def test_every_key_is_flipped_below():
    assert set(FLIPPED) == set(Mamba.model_fields)
    assert set(Head.model_fields) == {"dropout"}


@pytest.mark.parametrize("key", FLIPPED)
def test_a_flipped_key_of_mamba_counts(config_of, key):
    _, plain = logits(config_of(ENCODER))
    detector, flipped = logits(config_of(ENCODER, {key: FLIPPED[key]}))
    if key in ROUNDING_ONLY:
        torch.testing.assert_close(flipped, plain, rtol=1e-4, atol=1e-5)
        assert getattr(detector.mamba.layers[0].backward_mamba, key) == FLIPPED[key]
    else:
        assert not torch.allclose(flipped, plain, rtol=1e-4, atol=1e-5)


def test_the_head_drops_out_in_training(config_of):
    detector, _ = logits(config_of(ENCODER, head={"dropout": 0.5}))
    features = torch.ones(1, 40, 64)
    assert not torch.equal(detector.head(features), detector.head(features))
    detector.eval()
    assert torch.equal(detector.head(features), detector.head(features))


@pytest.mark.parametrize("name", ["tcn", "unet"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_shows_in_the_logits(config_of, name, value):
    detector = build_detector(config_of({"name": name, "channels": [8, 64]})).eval()
    signal = torch.randn(1, 19, 64)
    assert detector(signal).isfinite().all()
    for path in ("encoder", "norm", "mamba.layers.0.backward_mamba.in_proj", "mamba.layers.0.norm", "head"):
        parameter = next(detector.get_submodule(path).parameters())
        kept = parameter.detach().clone()
        with torch.no_grad():
            parameter.view(-1)[0] = value
            assert not detector(signal).isfinite().all(), path
            parameter.copy_(kept)
