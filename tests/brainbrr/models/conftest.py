import importlib.util
import sys
import tomllib
from pathlib import Path

import pytest

from brainbrr.config import Config, config_from_mapping

EXAMPLE = Path(__file__).parents[3] / "examples" / "patch_encoder"

collect_ignore = [] if importlib.util.find_spec("mamba_ssm") else ["test_mamba_ssm.py"]  # tox -e mamba-ssm


@pytest.fixture
def patch_encoder(tmp_path, monkeypatch):
    """Install the example package as pip would, for one test: its module and its entry points on the path."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    info = tmp_path / f"patch_encoder-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
        for group, entries in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(str(EXAMPLE))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("patch_encoder", None)


def make_config(encoder: dict, mamba: dict | None = None, **model) -> Config:
    tree = {"encoder": encoder, "mamba": {"layers": 1, "headdim": 16} | (mamba or {}), **model}
    return config_from_mapping({"run": {"name": "test", "output_dir": "unused"}, "model": tree}, "test")


@pytest.fixture
def config_of():
    return make_config
