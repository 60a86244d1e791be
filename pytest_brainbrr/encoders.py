"""brainbrr's encoders as targets: each is trained by the real entry point, ``brainbrr train``."""

import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_brainbrr.commands import parse
from pytest_brainbrr.targets import Run, Target

ENTRY_POINTS = "brainbrr.encoders"
DEFAULT_LIMIT_FILES = "3"
WINDOW = (None, 19, 15_360)
"""The production window at the model's input: batch, channels, 60 s at 256 Hz."""


LAID_OUT = ("canary", "no_positives")
"""Variants that bring their own recordings."""
AS_LAID_OUT = (
    "data.corpus=auto",
    "data.split=auto",
    "data.montage=referential",
    "windows.length_s=60",
    "preprocessing.rate_hz=256",
    "preprocessing.band_hz=[0.5, 100.0]",
    "preprocessing.notch_hz=60",
    "sampling.windows_per_epoch=2",
    "training.loss.name=bce",
    "training.validation.every_steps=1",
    "checkpoints.every_n_steps=1",
)
"""What recordings made by us are read with, whatever the configuration says of the user's: else they were not known
any longer. They hold seizures, so that scores are defined, and are scored after every step; epochs are short; and the
loss weighs samples by their label only, so that these weights can be read off."""


@dataclass(frozen=True)
class EncoderTrainer:
    """Call ``brainbrr train`` as a user would, in smoke mode unless the data variant asks for the strict door."""

    config: str
    overrides: tuple[str, ...] = ()

    def __call__(self, run: Run) -> None:
        """Train for ``run.max_steps`` steps below ``run.workdir``; ends in ``SystemExit`` like the command."""
        from brainbrr.cli import main

        if run.data == "no_positives":
            os.environ.pop("BGB_SMOKE_TEST", None)
        else:
            os.environ["BGB_SMOKE_TEST"] = "1"
        os.environ.setdefault("BGB_LIMIT_FILES", DEFAULT_LIMIT_FILES)
        overrides = self.overrides
        if run.data in LAID_OUT:
            # Read anew: arrays made before a reader was changed would answer for it.
            os.environ["BGB_DATA_DIR"] = str(run.workdir / "canary")
            os.environ["BGB_CACHE_DIR"] = str(run.workdir / "cache")
            del os.environ["BGB_LIMIT_FILES"]
            overrides = (*overrides, *AS_LAID_OUT)
        arguments = ["train", self.config, "--output-dir", str(run.workdir / "run"), "--seed", str(run.seed)]
        arguments += ["--max-steps", str(run.max_steps)]
        if run.resume_from is not None:
            arguments += ["--resume", str(run.resume_from)]
        for override in overrides:
            arguments += ["--set", override]
        main(arguments)


def prepare(run: Run) -> None:
    """Lay out the canary corpus where a run asks for it, or asks for data without seizures; others read their own."""
    if run.data in LAID_OUT:
        from pytest_brainbrr.canary import write_canary

        write_canary(run.workdir / "canary", seizures=run.data == "canary")


def encoder_names() -> list[str]:
    """Return the registered encoders, brainbrr's own and those of other packages, without importing them."""
    return sorted({point.name for point in importlib.metadata.entry_points(group=ENTRY_POINTS)})


def encoder_targets(extra: Sequence[str] = ()) -> list[Target]:
    """Return one target per registered encoder, at smoke width, with ``extra`` overrides of its configuration."""
    targets = []
    for name in encoder_names():
        path = smoke_config(name)
        overrides: tuple[str, ...] = ()
        if path is None:
            # An encoder of another package: everything around it is what ours use, its own keys take their defaults.
            path = smoke_config("tcn")
            overrides = (f"model.encoder={json.dumps({'name': name})}", f"run.name=smoke_{name}")
        assert path is not None, "the smoke configurations are part of this package"
        targets.append(_target(name, path, (*overrides, *extra)))
    return targets


def config_target(path: Path, extra: Sequence[str] = ()) -> Target:
    """Return the target that runs a configuration as it is, but for ``extra`` overrides."""
    return _target(path.stem, path, tuple(extra))


def script_target(command: str, arguments: Mapping[str, str] | None = None) -> Target:
    """Return the target of ``--smoke-script``, named after the script, told by ``arguments`` what they say."""
    return Target(parse(command).name, script=command, **(arguments or {}))  # type: ignore[arg-type]


def smoke_config(encoder: str) -> Path | None:
    """Return the encoder's configuration at smoke width: in the checkout, or installed beside this file."""
    here = Path(__file__).resolve().parent
    for folder in (here.parent / "configs" / "local", here / "configs"):
        path = folder / f"smoke_{encoder}.yaml"
        if path.is_file():
            return path
    return None


def why_no_cuda() -> str | None:
    """Return why CUDA cannot be used, in one sentence, or None. Asks torch in a process of its own."""
    program = (
        "import torch\n"
        "built, seen = torch.version.cuda, torch.cuda.is_available()\n"
        "print('' if seen else 'torch ' + torch.__version__ + "
        "(' was built without CUDA' if built is None else ' (CUDA ' + built + ') sees no CUDA device'))"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return f"torch cannot be imported: {done.stderr.strip().splitlines()[-1]}"
    return done.stdout.strip() or None


def run_record(workdir: Path) -> Mapping[str, Any]:
    """Return what the trainer wrote about its run, for the summary; empty where it wrote nothing."""
    path = workdir / "run" / "run.json"
    if not path.is_file():
        return {}
    record = json.loads(path.read_text(encoding="utf-8"))
    train = record["train"]
    return {
        "device": record["device"],
        "kernel": record["kernel"],
        "recordings_used": train["recordings_used"],
        "recordings_found": train["recordings_found"],
        "windows": train["windows"],
        "seizures": train["seizures"],
    }


def verify(workdir: Path) -> Iterator[str]:
    """Say what a smoke run of brainbrr left otherwise than promised: its marks, and the limit on recordings."""
    path = workdir / "run" / "run.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    limit = str(record["environment"].get("BGB_LIMIT_FILES", ""))
    if record["smoke"] is not True:
        yield "run.json carries no smoke mark: a smoke run passes for a trained one"
    if limit.isdigit() and record["train"]["recordings_used"] > int(limit):
        yield f"BGB_LIMIT_FILES={limit} does nothing: {record['train']['recordings_used']} recordings were used"
    log = workdir / "run" / "metrics.jsonl"
    if any(json.loads(line).get("smoke") is not True for line in log.read_text(encoding="utf-8").splitlines()):
        yield "lines of metrics.jsonl carry no smoke mark"


def _window(config: Path, overrides: Sequence[str]) -> tuple[int | None, ...]:
    """Return the shape of the model's input that a configuration asks for."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        tree = YAML(typ="safe", pure=True).load(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, YAMLError):
        return WINDOW  # brainbrr says what is wrong with it
    told = dict(override.partition("=")[::2] for override in overrides)
    numbers = []
    for section, key, usual in (("windows", "length_s", 60.0), ("preprocessing", "rate_hz", 256.0)):
        below = tree.get(section) if isinstance(tree, dict) else None
        value = told.get(f"{section}.{key}", below.get(key, usual) if isinstance(below, dict) else usual)
        try:
            numbers.append(float(value))
        except (TypeError, ValueError):
            return WINDOW
    return (None, WINDOW[1], round(numbers[0] * numbers[1]))


def _target(name: str, config: Path, overrides: tuple[str, ...]) -> Target:
    own = smoke_config(name) is not None
    # Recordings made by us are read with production's window: other shapes can be declared for one of both only.
    usual = _window(config, overrides) == WINDOW
    return Target(
        name,
        train=EncoderTrainer(str(config), overrides),
        resumable=True,
        seeded=True,
        prepare=prepare,
        variants=("normal", "no_positives", "canary"),
        refuses_no_positives=True,
        input_shape=WINDOW if usual else None,
        output_shape=(None, WINDOW[2]) if usual else None,
        inner_shapes={"encoder": (None, None, (WINDOW[2] or 0) // 16)} if usual else {},
        # Encoders of other packages may freeze what they like.
        trained=("*",) if own else (),
        shuffled=True,
        atomic=True,
        verify=verify,
        facts=run_record,
    )
