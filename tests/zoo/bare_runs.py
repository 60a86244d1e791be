"""Run the zoo's trainers bare, without the plugin, and take the measure of what they leave behind."""

import contextlib
import io
import os
import shlex
import subprocess
import sys
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import torch


@dataclass(frozen=True)
class BareRun:
    """What a trainer is told; has the attributes of ``pytest_brainbrr.Run``."""

    workdir: Path
    seed: int = 0
    max_steps: int = 6
    resume_from: Path | None = None
    environment: dict = field(default_factory=dict)
    data: str = "normal"


def run_bare(target, workdir, **facts):
    """Prepare and run a target in this process (a script: in one of its own); return what it printed."""
    workdir.mkdir(parents=True, exist_ok=True)
    run = BareRun(workdir, **facts)
    if target.prepare is not None:
        target.prepare(run)
    printed = io.StringIO()
    if target.script:
        told = target.told(seed=run.seed, max_steps=run.max_steps, resume_from=run.resume_from)
        command = [sys.executable, *shlex.split(target.script), *told]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        result = subprocess.run(command, cwd=workdir, env=environment, text=True, capture_output=True, check=False)
        if result.returncode:
            raise SystemExit(result.stderr)
        return result.stdout
    with warnings.catch_warnings(), contextlib.redirect_stdout(printed):
        warnings.simplefilter("ignore")
        try:
            target.train(run)
        except SystemExit as end:
            if end.code:
                raise
    return printed.getvalue()


def last_checkpoint(workdir):
    """Return the newest checkpoint to resume from: a file, or the folder that Accelerate or Transformers write."""
    files = [path for path in workdir.rglob("*") if path.suffix in {".pt", ".pth", ".ckpt"} and "best" not in str(path)]
    if files:
        newest = max(files, key=lambda path: path.stat().st_mtime_ns)
        return newest.parent if (newest.parent / "model.safetensors").exists() else newest
    folders = [path.parent for path in workdir.rglob("model.safetensors")]
    return max(folders, key=lambda path: path.stat().st_mtime_ns)


def content(path):
    """Return the tensors and numbers of a checkpoint by name, without paths and times."""
    if path.is_dir():
        return {name: value for file in numbered(path) for name, value in content(file).items()}
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return dict(flatten(load_file(path), path.name))
    return dict(flatten(torch.load(path, weights_only=False), path.name))


def numbered(folder):
    """Return the files of a checkpoint's folder that hold tensors."""
    return [file for file in sorted(folder.iterdir()) if file.suffix not in {".json", ".txt"}]


def flatten(value, name):
    if torch.is_tensor(value):
        yield name, value
    elif isinstance(value, dict):
        for key, part in value.items():
            if "/" not in str(key):
                yield from flatten(part, f"{name}.{key}")
    elif isinstance(value, list | tuple):
        for i, part in enumerate(value):
            yield from flatten(part, f"{name}.{i}")
    elif hasattr(value, "dtype"):
        yield name, torch.as_tensor(value)
    elif isinstance(value, bool | int | float):
        yield name, torch.tensor(value)


def differences(one, other):
    """Return the names whose values differ, bit for bit."""
    names = {name for name in one.keys() | other.keys() if name not in one or name not in other}
    return sorted(names | {name for name in one.keys() & other.keys() if not same(one[name], other[name])})


def same(one, other):
    return (
        one.shape == other.shape
        and one.dtype == other.dtype
        and torch.equal(torch.nan_to_num(one.double()), torch.nan_to_num(other.double()))
    )
