"""The model section: what it refuses, on every device, and how it says so."""

import pytest

from brainbrr.config import config_from_mapping
from brainbrr.errors import ConfigError
from brainbrr.models import build_detector


def load(model, **sections):
    return config_from_mapping({"run": {"name": "t", "output_dir": "o"}, "model": model, **sections}, "t.yaml")


REFUSED = {
    "unknown encoder": ({"encoder": {"name": "tcnn"}}, r"unknown encoder \(got 'tcnn', expected one of .*tcn, unet"),
    "no name": ({"encoder": {"channels": [64]}}, "a mapping with the name of an encoder"),
    "no mapping": ({"encoder": "tcn"}, "a mapping with the name of an encoder"),
    "encoder key": ({"encoder": {"name": "tcn", "chanels": [64]}}, r"'model.encoder.chanels'. Did you mean 'channels'"),
    "encoder type": ({"encoder": {"name": "tcn", "dropout": "x"}}, "wrong value of 'model.encoder.dropout'"),
    "other's key": ({"encoder": {"name": "unet", "causal": True}}, "unknown key 'model.encoder.causal'"),
    "even kernel": ({"encoder": {"name": "tcn", "kernel_size": 6}}, "kernel_size must be odd unless causal is true"),
    "no channels": ({"encoder": {"name": "tcn", "channels": []}}, "wrong value of 'model.encoder.channels'"),
    "zero channels": ({"encoder": {"name": "tcn", "channels": [0]}}, "wrong value of 'model.encoder.channels.0'"),
    "even unet kernel": ({"encoder": {"name": "unet", "kernel_size": 4}}, "kernel sizes must be odd"),
    "even bottleneck": ({"encoder": {"name": "unet", "bottleneck_kernels": [3, 4]}}, "kernel sizes must be odd"),
    "too many stages": ({"encoder": {"name": "unet", "channels": [8] * 5}}, "at most 4 stages"),
    "odd groups": ({"encoder": {"name": "unet", "norm": "group", "channels": [12]}}, "multiples of 8"),
    "d_conv 1": ({"mamba": {"d_conv": 1}}, "'model.mamba.d_conv'"),
    "d_conv 5": ({"mamba": {"d_conv": 5}}, "'model.mamba.d_conv'"),
    "headdim 48": ({"mamba": {"headdim": 48}}, "headdim must be a power of two"),
    "chunk 48": ({"mamba": {"chunk_size": 48}}, "chunk_size must be a power of two"),
    "kernel": ({"mamba": {"kernel": "triton"}}, "'model.mamba.kernel'"),
    "mamba key": ({"mamba": {"dstate": 16}}, "'model.mamba.dstate'. Did you mean 'd_state'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_the_section(case):
    model, message = REFUSED[case]
    with pytest.raises(ConfigError, match=message) as refused:
        load(model)
    assert refused.value.exit_status == 2


UNFIT = {
    "headdim": ({"name": "tcn", "channels": [40]}, {"headdim": 64}, "no multiple of headdim"),
    "groups": ({"name": "tcn", "channels": [64]}, {"headdim": 16, "ngroups": 3}, "no multiple of ngroups"),
    "strides": ({"name": "tcn", "channels": [64]}, {"headdim": 64}, r"in_proj rows divisible by 8 \(got 290"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_refused_when_width_and_mamba_do_not_fit(case):
    encoder, mamba, message = UNFIT[case]
    with pytest.raises(ConfigError, match=message) as refused:
        load({"encoder": encoder, "mamba": mamba})
    assert refused.value.exit_status == 2
    assert str(refused.value).startswith("t.yaml: model.mamba at width ")


def test_refused_when_the_window_is_no_multiple_of_the_stride():
    config = load({"encoder": {"name": "tcn", "channels": [64]}, "mamba": {"headdim": 16}}, windows={"length_s": 1.3})
    with pytest.raises(ConfigError, match=r"windows.length_s: .*got 332.8 samples, expected a multiple of 16"):
        build_detector(config)


def test_the_section_survives_a_round_trip_through_its_dump():
    config = load({"encoder": {"name": "unet", "channels": [8, 64], "norm": "group"}, "mamba": {"headdim": 16}})
    again = config_from_mapping(config.model_dump(mode="json"), "dump")
    assert again == config
    assert type(again.model.encoder) is type(config.model.encoder)


def test_a_causal_kernel_may_be_even():
    assert load({"encoder": {"name": "tcn", "kernel_size": 6, "causal": True}}).model.encoder.kernel_size == 6
