from pathlib import Path

import pytest


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder that no other test sees."""
    folder = tmp_path / "own-cache"
    monkeypatch.setenv("BGB_CACHE_DIR", str(folder))
    return folder
