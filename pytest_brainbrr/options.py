"""Command-line and ini options of the plugin."""

import argparse
import importlib.metadata
import math
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_brainbrr.targets import TIMEOUT_S

DEFAULT_STEPS = 6
LEAST_STEPS = 2
"""What moves from one step to the next takes two to be seen."""


SCRIPT_ARGUMENTS = {
    "seed": ("--seed {seed}", "their seed"),
    "resume": ("--resume {checkpoint}", "what to resume from"),
    "steps": ("--max-steps {steps}", "how many optimizer steps to take"),
}
"""Option after ``--smoke-script-`` -> example, and what it tells."""


def add_options(parser: pytest.Parser) -> None:
    """Register the options; ``--smoke`` only where no other plugin owns it."""
    group = parser.getgroup("brainbrr", "smoke tests of PyTorch trainers (brainbrr)")
    names = ["--brainbrr-smoke"] if _installed("pytest-smoke") else ["--brainbrr-smoke", "--smoke"]
    group.addoption(
        *names,
        dest="brainbrr_smoke",
        action="store_true",
        help="run each trainer for a few steps, watch it, and judge it; nothing else is run",
    )
    group.addoption("--smoke-checks", action="store_true", help="list the checks and exit")
    group.addoption(
        "--smoke-script",
        action="append",
        default=[],
        metavar="COMMAND",
        help='smoke-test a training script as it is, for instance "train.py --epochs 1" (repeatable); a module is '
        'named after the equals sign: --smoke-script="-m package.train --epochs 1"',
    )
    for name, (example, what) in SCRIPT_ARGUMENTS.items():
        text = f'how the scripts are told {what}, for instance "{example}"'
        group.addoption(f"--smoke-script-{name}", metavar="ARGUMENTS", default=None, help=f"{text}; write it after '='")
        parser.addini(f"smoke_script_{name}", default="", help=text)
    group.addoption(
        "--smoke-config",
        action="append",
        default=[],
        metavar="PATH",
        help="smoke-test brainbrr with this configuration as it is (repeatable)",
    )
    group.addoption(
        "--smoke-set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="override one key of every brainbrr configuration that is smoke-tested (repeatable)",
    )
    group.addoption(
        "--smoke-steps",
        type=_steps,
        default=DEFAULT_STEPS,
        metavar="N",
        help="optimizer steps of a run (default: %(default)s)",
    )
    group.addoption(
        "--smoke-timeout",
        type=_seconds,
        default=TIMEOUT_S,
        metavar="SECONDS",
        help="how long one run of a target may take; a target's own timeout_s wins (default: %(default)g)",
    )
    group.addoption(
        "--smoke-device",
        choices=["auto", "cpu", "cuda"],
        default="auto",
        help="device of the encoders' runs; cuda fails where there is no CUDA (default: auto)",
    )
    group.addoption(
        "--smoke-workdir",
        metavar="DIR",
        default=None,
        help="keep what the runs write in DIR (default: a temporary folder, kept only after a failure)",
    )
    group.addoption("--smoke-json", metavar="FILE", default=None, help="write all findings and outcomes as JSON")
    group.addoption("--smoke-html", metavar="FILE", default=None, help="write the report as one HTML page")
    parser.addini(
        "smoke_expected_failures",
        type="linelist",
        default=[],
        help="failures known and accepted, a line each: TARGET::CHECK: reason",
    )


@dataclass(frozen=True)
class SmokeOptions:
    """The options in force, checked."""

    scripts: tuple[str, ...]
    script_arguments: dict[str, str]
    """Fields of a script's target: ``seed_argument``, ``resume_argument``, ``steps_argument``."""
    configs: tuple[Path, ...]
    overrides: tuple[str, ...]
    """Keys of brainbrr's configurations, ``--smoke-set`` and the device."""
    steps: int
    timeout_s: float
    device: str
    workdir: Path | None
    json: Path | None
    html: Path | None
    expected_failures: dict[str, dict[str, str]]
    """Target -> check -> reason, from the ini file."""

    @classmethod
    def of(cls, config: pytest.Config) -> "SmokeOptions":
        """Read the options of this session.

        Raises:
            pytest.UsageError: a line of ``smoke_expected_failures`` is no ``TARGET::CHECK: reason``, or scripts are to
                be told something and there is none.
        """
        expected: dict[str, dict[str, str]] = {}
        for line in config.getini("smoke_expected_failures"):
            # Check ids hold no colon, so the last part up to ": " is the check.
            name, colon, reason = line.partition(": ")
            target, colons, check = name.strip().rpartition("::")
            if not (colon and colons and target and check and reason.strip()):
                message = f"smoke_expected_failures: got {line!r}, expected 'TARGET::CHECK: reason'"
                raise pytest.UsageError(message)
            expected.setdefault(target, {})[check] = reason.strip()
        start = config.invocation_params.dir
        option = config.option
        device = option.smoke_device
        return cls(
            scripts=tuple(option.smoke_script),
            script_arguments=_script_arguments(config),
            configs=tuple(start / path for path in option.smoke_config),
            overrides=(*option.smoke_set, *([] if device == "auto" else [f"run.device={device}"])),
            steps=option.smoke_steps,
            timeout_s=option.smoke_timeout,
            device=device,
            workdir=start / option.smoke_workdir if option.smoke_workdir else None,
            json=start / option.smoke_json if option.smoke_json else None,
            html=start / option.smoke_html if option.smoke_html else None,
            expected_failures=expected,
        )


def smoke_is_on(config: pytest.Config) -> bool:
    """Say whether this session runs smoke tests."""
    return bool(config.option.brainbrr_smoke)


def _script_arguments(config: pytest.Config) -> dict[str, str]:
    found = {}
    for name in SCRIPT_ARGUMENTS:
        given = config.getoption(f"smoke_script_{name}")
        if given is not None and not config.option.smoke_script:
            message = f"--smoke-script-{name} needs --smoke-script"
            raise pytest.UsageError(message)
        value = given if given is not None else config.getini(f"smoke_script_{name}") or None
        if value is not None:
            found[f"{name}_argument"] = str(value)
    return found


def _installed(distribution: str) -> bool:
    try:
        importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        message = f"got {text!r}, expected a positive number of seconds"
        raise argparse.ArgumentTypeError(message)
    return value


def _steps(text: str) -> int:
    if not text.isdecimal() or int(text) < LEAST_STEPS:
        message = f"got {text!r}, expected an integer of at least {LEAST_STEPS}"
        raise argparse.ArgumentTypeError(message)
    return int(text)
