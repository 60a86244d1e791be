"""brainbrr's encoders as targets: every registered one is in the matrix, and its real trainer passes."""

import importlib.metadata
from pathlib import Path

import pytest

from brainbrr.config import load_config
from pytest_brainbrr import encoders
from pytest_brainbrr.checks.base import ITSELF


def test_every_registered_encoder_is_in_the_smoke_matrix() -> None:
    registered = {point.name for point in importlib.metadata.entry_points(group="brainbrr.encoders")}
    assert {"tcn", "unet"} <= registered
    assert {target.name for target in encoders.encoder_targets()} == registered


def test_an_encoder_of_another_package_enters_by_being_installed(pytester: pytest.Pytester) -> None:
    info = pytester.mkdir("other-1.0.dist-info")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[brainbrr.encoders]\nwavelet = other:Wavelet\n")
    pytester.syspathinsert()
    result = pytester.runpytest_subprocess("--smoke", "--collect-only", "-q", "-k", "wavelet")
    result.stdout.fnmatch_lines(["smoke::wavelet::*"])


@pytest.mark.parametrize("encoder", ["tcn", "unet"])
def test_smoke_width_keeps_the_production_window_and_layers(encoder: str) -> None:
    path = encoders.smoke_config(encoder)
    assert path is not None
    smoke, production = load_config(path), load_config(path.parent / "train.yaml")
    assert smoke.windows == production.windows
    assert smoke.preprocessing == production.preprocessing
    assert smoke.model.encoder.name == encoder
    assert int(smoke.windows.length_s * smoke.preprocessing.rate_hz) == encoders.WINDOW[2]
    narrowed = {"layers", "headdim"}
    assert smoke.model.mamba.model_dump(exclude=narrowed) == production.model.mamba.model_dump(exclude=narrowed)
    for section in ("optimizer", "loss"):
        assert getattr(smoke.training, section) == getattr(production.training, section)


@pytest.mark.parametrize("encoder", ["tcn", "unet"])
def test_the_smoke_run_passes_on_real_recordings(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, real_corpus: Path, encoder: str
) -> None:
    monkeypatch.setenv("BGB_DATA_DIR", str(real_corpus))
    monkeypatch.setenv("BGB_LIMIT_FILES", "2")
    result = pytester.runpytest_subprocess("--smoke", "-k", encoder, "-v")
    assert result.ret == 0
    result.stdout.no_fnmatch_line(f"*{ITSELF}*")
    result.stdout.fnmatch_lines([f"{encoder}: device cpu, recordings 2 of 4, *"])


def test_why_there_is_no_cuda_is_a_sentence() -> None:
    torch = pytest.importorskip("torch")
    reason = encoders.why_no_cuda()
    assert (reason is None) == torch.cuda.is_available()
    if reason is not None:
        assert reason.startswith("torch ")
