"""The two built-in encoders: every key of their sections changes the model; causality; known shapes."""

import pytest
import torch

from brainbrr.config.encoders import encoder_class

SMALL = {
    "tcn": {"name": "tcn", "channels": [8, 16], "blocks": 4, "dropout": 0.0},
    "unet": {"name": "unet", "channels": [8, 16, 16], "dropout": 0.0},
}
FLIPPED = {
    "tcn": {
        "channels": [8, 24],
        "blocks": 6,
        "kernel_size": 5,
        "dilation_base": 3,
        "causal": True,
        "dropout": 0.5,
    },
    "unet": {
        "channels": [8, 16],
        "kernel_size": 3,
        "bottleneck_kernels": [3, 5],
        "norm": "group",
        "dropout": 0.5,
    },
}
KEYS = [(name, key) for name, keys in FLIPPED.items() for key in keys]


def build(tree):
    encoder = encoder_class(tree["name"])
    torch.manual_seed(0)
    return encoder(encoder.Config.model_validate(tree), 19)


def features(model):
    signal = torch.randn(2, 19, 256, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(2)
    return model(signal)


@pytest.mark.parametrize("name", SMALL)
def test_every_key_is_flipped_below(name):
    assert set(FLIPPED[name]) == set(encoder_class(name).Config.model_fields) - {"name"}


@pytest.mark.parametrize(("name", "key"), KEYS)
def test_a_flipped_key_changes_the_model(name, key):
    one, other = features(build(SMALL[name])), features(build(SMALL[name] | {key: FLIPPED[name][key]}))
    assert one.shape != other.shape or not torch.allclose(one, other)


def test_without_a_flip_the_models_are_equal():
    for tree in SMALL.values():
        assert torch.equal(features(build(tree)), features(build(tree)))


@pytest.mark.parametrize(
    ("tree", "widths"),
    [
        ({"name": "tcn"}, [64, 128, 256, 512, 64, 128, 256, 512]),
        ({"name": "tcn", "channels": [4, 8, 16], "blocks": 4}, [4, 8, 16, 4]),
    ],
)
def test_tcn_widths_repeat(tree, widths):
    assert encoder_class("tcn").Config.model_validate(tree).widths() == widths


@pytest.mark.parametrize("kernel_size", [7, 6])
def test_a_causal_tcn_sees_no_later_sample(kernel_size):
    model = build(SMALL["tcn"] | {"causal": True, "kernel_size": kernel_size}).double().eval()
    signal = torch.randn(1, 19, 160, dtype=torch.float64)
    moved = signal.clone()
    moved[..., 80:] += 1
    with torch.no_grad():
        change = (model(moved) - model(signal)).abs().amax((0, 1))
    assert (change[:5] == 0).all()
    assert (change[5:] > 0).all()


def test_a_tcn_that_is_not_causal_looks_both_ways_equally_far():
    model = build(SMALL["tcn"] | {"blocks": 2, "kernel_size": 3}).double().eval()
    # Two blocks of two convolutions with dilations 1 and 2 reach 2 * (1 + 2) = 6 samples to each side.
    signal = torch.randn(1, 19, 160, dtype=torch.float64)
    for sample, expected in ((85, [4, 5]), (86, [5]), (89, [5]), (90, [5, 6])):
        moved = signal.clone()
        moved[..., sample] += 1
        with torch.no_grad():
            change = (model(moved) - model(signal)).abs().amax((0, 1))
        assert change.nonzero().flatten().tolist() == expected


def test_unet_buffers_move_with_batch_norm_only():
    for norm in ("batch", "group"):
        model = build(SMALL["unet"] | {"norm": norm})
        before = [buffer.clone() for buffer in model.buffers()]
        features(model)
        assert bool(before) == (norm == "batch")
        assert all(not torch.equal(one, other) for one, other in zip(before, model.buffers(), strict=True))
