"""Shared by the project's own tests."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

pytest_plugins = ["pytester"]

# Training scripts that tests run as scripts (importing one would start it), and conftest files, which hold no doctests.
collect_ignore_glob = ["tests/zoo/scripts/*", "tests/**/conftest.py"]

# One thread per process: several test workers and their children share few cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A busy machine makes no example fail.
settings.register_profile("brainbrr", deadline=None)
settings.load_profile("brainbrr")

REAL_CORPUS = Path(__file__).resolve().parent.parent / "shared" / "data" / "sparcnet_tusz"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests set the variables they need; those of the developer's shell must not change what they see."""
    for name in ("BGB_SMOKE_TEST", "BGB_LIMIT_FILES", "BGB_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def real_corpus() -> Path:
    """Folder of real EEG recordings with seizures in TUSZ layout, where it is present."""
    if not REAL_CORPUS.is_dir():
        pytest.skip("the real recordings (sparcnet_tusz) are not beside this checkout")
    return REAL_CORPUS
