"""What can be smoke-tested: a trainer behind a callable or a script, and the facts its owner may declare."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Variant = Literal["normal", "no_positives", "non_finite", "canary"]


@dataclass(frozen=True)
class Run:
    """What one call of a trainer is told. The trainer writes below ``workdir`` and nowhere else."""

    workdir: Path
    seed: int = 0
    max_steps: int = 6
    resume_from: Path | None = None
    """Checkpoint that an earlier run of the same target wrote, to be continued, or None."""
    environment: Mapping[str, str] = field(default_factory=dict)
    data: Variant = "normal"


@dataclass(frozen=True)
class Target:
    """A trainer to smoke-test.

    Give either ``train``, called with one :class:`Run`, or ``script``, a command line such as
    ``"train.py --epochs 1"`` that runs as ``__main__`` in a process of its own. Everything else is optional: a check
    that lacks a fact is vacuous and names it.
    """

    name: str
    train: Callable[[Run], object] | None = None
    script: str | None = None
    prepare: Callable[[Run], object] | None = None
    """Lay the input data of ``run.data`` into a fresh ``run.workdir``, before ``train``."""
    expected_failures: Mapping[str, str] = field(default_factory=dict)
    """Check id -> why it is known to fail."""
    resumable: bool | None = None
    """Whether ``train`` honours ``run.resume_from``; None: find out."""
    seeded: bool = True
    """Whether ``train`` honours ``run.seed``, so that two runs with one seed are equal."""
    variants: Sequence[Variant] = ("normal",)
    """Which kinds of data ``prepare`` can lay out."""
    input_shape: tuple[int | None, ...] | None = None
    """Shape of the model's first input, None for a free dimension."""
    output_shape: tuple[int | None, ...] | None = None
    """Shape of the model's output."""
    inner_shapes: Mapping[str, tuple[int | None, ...]] = field(default_factory=dict)
    """Pattern (``fnmatch``) of module paths -> shape of their first output."""
    frozen: Sequence[str] = ()
    """Patterns (``fnmatch``) of parameters that must not change."""
    unused: Sequence[str] = ()
    """Patterns of parameters that get no gradient on purpose."""
    accumulation: int | None = None
    """Backward passes per optimizer step."""
    planned_steps: int | None = None
    """Optimizer steps that a run of ``max_steps`` is to take."""
    causal: bool = False
    """Whether the model must not look ahead in the last dimension of its input."""
    memory_budget_mb: float | None = None
    """Largest peak of allocated device memory."""
    facts: Callable[[Path], Mapping[str, Any]] | None = None
    """Given the workdir of the straight run, return what the summary shows of it (recordings, windows, ...)."""
    timeout_s: float = 600.0
    """How long one run may take before it is stopped."""

    def __post_init__(self) -> None:
        if (self.train is None) == (self.script is None):
            message = f"target {self.name!r}: give either train or script"
            raise TypeError(message)
        if not self.name or any(sign in self.name for sign in "[]:/\\ "):
            message = f"target name {self.name!r}: letters, digits, '-', '_' and '.' only"
            raise ValueError(message)

    @property
    def script_arguments(self) -> list[str]:
        """Split ``script`` as a shell would: the path of the script, then its arguments."""
        return shlex.split(self.script or "")
