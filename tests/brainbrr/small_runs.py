"""A corpus of seconds and a model of a few thousand weights, through the real entry point."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from brainbrr import cli


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it said."""

    status: int
    out: str
    err: str


@pytest.fixture(scope="session")
def small_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two patients with seizures and one without in train, one with and one without in dev and in eval."""
    from brainbrr.recordings.demo import AR, Plan, write_demo_corpus

    plans = [
        Plan("train", "aaaaaaaa", "s001_2012", AR, duration_s=40),
        Plan("train", "aaaaaaab", "s001_2012", AR, duration_s=60, seizures=((20, 45),)),
        Plan("train", "aaaaaaac", "s001_2012", AR, duration_s=50, seizures=((10, 30),)),
        Plan("dev", "aaaaaaba", "s001_2012", AR, duration_s=30),
        Plan("dev", "aaaaaabb", "s001_2012", AR, duration_s=60, seizures=((20, 40),)),
        Plan("eval", "aaaaaaca", "s001_2012", AR, duration_s=30),
        Plan("eval", "aaaaaacb", "s001_2012", AR, duration_s=60, seizures=((15, 35),)),
    ]
    root = tmp_path_factory.mktemp("corpus") / "small"
    write_demo_corpus(root, plans=plans)
    return root


@pytest.fixture(scope="session")
def small_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Preprocessed recordings of the small corpus, shared by all tests."""
    return tmp_path_factory.mktemp("cache")


SMALL: dict[str, Any] = {
    "run": {"name": "small", "output_dir": "unset", "seed": 3, "device": "cpu", "threads": 1},
    "preprocessing": {"rate_hz": 64.0, "band_hz": [0.5, 25.0], "notch_hz": None},
    "windows": {"length_s": 8.0, "stride_s": 4.0},
    "model": {
        "encoder": {"name": "tcn", "channels": [32], "blocks": 2, "kernel_size": 3},
        "mamba": {"layers": 1, "d_state": 8, "headdim": 8},
    },
    "training": {
        "max_steps": 6,
        "batch_size": 4,
        "optimizer": {"learning_rate": 3e-3},
        "validation": {"every_steps": 2, "max_windows": 6},
    },
    "checkpoints": {"every_n_steps": 1, "keep_last": 20},
}


@pytest.fixture
def small_config(tmp_path: Path) -> Path:
    """A configuration file of a small run."""
    path = tmp_path / "small.yaml"
    with path.open("w") as file:
        YAML().dump(SMALL, file)
    return path


Train = Callable[..., Ended]


@pytest.fixture
def brainbrr(
    small_corpus: Path, small_cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Ended]:
    """Call the command line on the small corpus: ``brainbrr("train", config, ...)``."""
    monkeypatch.setenv("BGB_DATA_DIR", str(small_corpus))
    monkeypatch.setenv("BGB_CACHE_DIR", str(small_cache))

    def call(*args: object) -> Ended:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main([str(arg) for arg in args])
        said = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Ended(ended.value.code, said.out, said.err)

    return call


@pytest.fixture
def train(brainbrr: Callable[..., Ended], small_config: Path, tmp_path: Path) -> Train:
    """Train the small configuration: ``train(folder, "training.epochs=2", "--fresh")``."""

    def call(folder: str, *args: str) -> Ended:
        options = [
            part for arg in args for part in ([arg] if arg.startswith("-") or "=" not in arg else ["--set", arg])
        ]
        return brainbrr("train", small_config, "--output-dir", tmp_path / folder, *options)

    return call


def differences(one: Any, two: Any, name: str = "") -> list[str]:
    """Name what is not bitwise equal in two trees of tensors and plain data."""
    if isinstance(one, dict) and isinstance(two, dict):
        return [text for key in {**one, **two} for text in differences(one.get(key), two.get(key), f"{name}.{key}")]
    if isinstance(one, list | tuple) and isinstance(two, list | tuple) and len(one) == len(two):
        return [
            text for i, pair in enumerate(zip(one, two, strict=True)) for text in differences(*pair, f"{name}[{i}]")
        ]
    if hasattr(one, "untyped_storage"):
        same = one.dtype == two.dtype and one.shape == two.shape and one.numpy().tobytes() == two.numpy().tobytes()
        return [] if same else [name]
    return [] if type(one) is type(two) and (one == two or one != one) else [f"{name}: {one!r} != {two!r}"]


def state_of(folder: Path, step: int) -> dict[str, Any]:
    """Return the state in a checkpoint."""
    from brainbrr.training.checkpoints import checkpoint_path, read_checkpoint

    state = read_checkpoint(checkpoint_path(folder / "checkpoints", step))["state"]
    assert isinstance(state, dict)
    return state


def metrics_of(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of the metrics log."""
    import json

    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
