"""Finding encoders by entry point: names, and what goes wrong with other people's packages."""

import subprocess
import sys

import pytest

from brainbrr.config.encoders import encoder_class, encoder_names
from brainbrr.errors import ConfigError
from brainbrr.models.tcn import TCN


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Install a distribution that registers what it is told."""

    def install(package, **encoders):
        info = tmp_path / package / f"{package}-1.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1\n")
        lines = [f"{name} = {value}\n" for name, value in encoders.items()]
        (info / "entry_points.txt").write_text("[brainbrr.encoders]\n" + "".join(lines))
        monkeypatch.syspath_prepend(str(tmp_path / package))

    return install


def test_the_built_in_encoders_are_registered_like_any_other():
    assert {"tcn", "unet"} <= set(encoder_names())
    assert encoder_class("tcn") is TCN


def test_an_installed_package_adds_its_encoder(installed):
    installed("other", longer="brainbrr.models.tcn:TCN")
    assert "longer" in encoder_names()
    assert encoder_class("longer") is TCN


def test_the_same_entry_listed_twice_is_one(installed):
    installed("editable", twice="brainbrr.models.tcn:TCN")
    installed("built", twice="brainbrr.models.tcn:TCN")
    assert encoder_names().count("twice") == 1
    assert encoder_class("twice") is TCN


BROKEN = {
    "unknown": ({}, "unknown encoder"),
    "absent": ({"absent": "no_such_module:Encoder"}, "cannot be imported: No module named 'no_such_module'"),
    "renamed": ({"renamed": "brainbrr.models.tcn:Nothing"}, "cannot be imported: .*Nothing"),
    "function": ({"function": "brainbrr.models:build_detector"}, "is no encoder"),
    "bare": ({"bare": "brainbrr.models:Detector"}, r"is no encoder .*expected a class with a Config"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_used_is_named(installed, name):
    encoders, message = BROKEN[name]
    installed("broken", **encoders)
    with pytest.raises(ConfigError, match=message):
        encoder_class(name)


def test_two_packages_with_one_name_are_refused(installed):
    installed("one", claimed="brainbrr.models.tcn:TCN")
    installed("two", claimed="brainbrr.models.unet:UNet")
    with pytest.raises(ConfigError, match=r"two packages register .*'claimed' as .*tcn:TCN and .*unet:UNet"):
        encoder_class("claimed")


def test_the_names_cost_no_torch():
    script = (
        "import sys; from brainbrr.config.encoders import encoder_names; encoder_names(); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
