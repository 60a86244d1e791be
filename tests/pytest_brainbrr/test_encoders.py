"""brainbrr's encoders as targets: every registered one is in the matrix, and its real trainer passes."""

import importlib.metadata
import json
from pathlib import Path

import pytest

from brainbrr.config import load_config
from pytest_brainbrr import encoders
from pytest_brainbrr.canary import write_canary
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


@pytest.mark.parametrize(
    ("text", "extra", "declared"),
    [
        ("run: {name: x}", (), True),
        ("windows: {length_s: 60}\npreprocessing: {rate_hz: 256.0}", (), True),
        ("windows: {length_s: 30}", (), False),
        ("windows: {length_s: 30}", ("windows.length_s=60",), True),
        ("run: {name: x}", ("preprocessing.rate_hz=128",), False),
        ("no: [mapping", (), True),
    ],
)
def test_shapes_are_declared_for_the_production_window_only(
    tmp_path: Path, text: str, extra: tuple[str, ...], declared: bool
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    target = encoders.config_target(path, extra)
    assert (target.input_shape is not None) is declared
    assert bool(target.inner_shapes) is declared


@pytest.mark.parametrize(
    ("record", "lines", "wrong"),
    [
        ({"smoke": True, "train": {"recordings_used": 3}}, ['{"smoke": true}'], 0),
        ({"smoke": False, "train": {"recordings_used": 3}}, ['{"smoke": true}'], 1),
        ({"smoke": True, "train": {"recordings_used": 9}}, ['{"smoke": true}', '{"loss": 1}'], 2),
    ],
)
def test_what_a_smoke_run_left_is_verified(
    tmp_path: Path, record: dict[str, object], lines: list[str], wrong: int
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(json.dumps({"environment": {"BGB_LIMIT_FILES": "3"}, **record}))
    (tmp_path / "run" / "metrics.jsonl").write_text("\n".join(lines))
    assert len(list(encoders.verify(tmp_path))) == wrong


def test_recordings_without_seizures_hold_none(tmp_path: Path) -> None:
    write_canary(tmp_path, seizures=False)
    labels = [path.read_text() for path in tmp_path.rglob("*.csv_bi")]
    assert len(labels) == len(list(tmp_path.rglob("*.edf"))) > 1
    assert not any("seiz" in text for text in labels)
    write_canary(tmp_path / "normal")
    assert any("seiz" in path.read_text() for path in (tmp_path / "normal").rglob("*.csv_bi"))
