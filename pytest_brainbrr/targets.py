"""What can be smoke-tested: a trainer behind a callable or a script, and the facts its owner may declare."""

import math
import os
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Variant = Literal["normal", "no_positives", "non_finite", "canary"]

TEMPLATES = {
    "seed_argument": ("seed", True),
    "resume_argument": ("checkpoint", False),
    "steps_argument": ("steps", True),
}
"""Field of a target -> its placeholder, and whether it must be there."""
EXAMPLES = {
    "seed_argument": "--seed {seed}",
    "resume_argument": "--resume {checkpoint}",
    "steps_argument": "--max-steps {steps}",
}


TIMEOUT_S = 600.0
"""Seconds that one run may take where nobody says otherwise."""

EXPECTED_FAILURE = "smoke_expected_failure"
"""Name of the mark."""


def expected_failure(mark: Any) -> tuple[str | None, str]:
    """Return check and reason of a mark ``smoke_expected_failure([check], reason=...)``.

    Raises:
        ValueError: the mark was given something else.
    """
    reason = mark.kwargs.get("reason")
    good = len(mark.args) < 2 and all(isinstance(value, str) for value in mark.args) and set(mark.kwargs) == {"reason"}
    if not good or not isinstance(reason, str) or not reason.strip():
        message = f"{EXPECTED_FAILURE}: got {mark.args} and {mark.kwargs}, expected ('check-id', reason='why')"
        raise ValueError(message)
    return (mark.args[0] if mark.args else None), reason.strip()


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
    seed_argument: str | None = None
    """How a script is told its seed, for instance ``"--seed {seed}"``; appended to its command in every run."""
    resume_argument: str | None = None
    """How a script is told to go on, for instance ``"--resume {checkpoint}"``, or ``"--resume"`` if it looks for the
    checkpoint itself: it runs in a folder as the stopped run left it. Declares the script resumable."""
    steps_argument: str | None = None
    """How a script is told its number of optimizer steps, for instance ``"--max-steps {steps}"``; without it a script
    is stopped from outside."""
    prepare: Callable[[Run], object] | None = None
    """Lay the input data of ``run.data`` into a fresh ``run.workdir``, before ``train``."""
    expected_failures: Mapping[str, str] = field(default_factory=dict)
    """Check id -> why it is known to fail."""
    marks: Sequence[Any] = ()
    """pytest marks for the items of this target; ``smoke_expected_failure("check-id", reason="why")`` says the same as
    ``expected_failures``."""
    resumable: bool | None = None
    """Whether ``train`` honours ``run.resume_from``; None: find out."""
    seeded: bool = True
    """Whether ``train`` honours ``run.seed``, so that two runs with one seed are equal."""
    variants: Sequence[Variant] = ("normal",)
    """Which kinds of data ``prepare`` can lay out."""
    refuses_no_positives: bool = False
    """Whether data without a positive label must end in an error before the first step: a message is not enough."""
    input_shape: tuple[int | None, ...] | None = None
    """Shape of the model's first input, None for a free dimension."""
    output_shape: tuple[int | None, ...] | None = None
    """Shape of the model's output."""
    inner_shapes: Mapping[str, tuple[int | None, ...]] = field(default_factory=dict)
    """Pattern (``fnmatch``) of module paths -> shape of their first output."""
    frozen: Sequence[str] = ()
    """Patterns (``fnmatch``) of parameters that must not change."""
    trained: Sequence[str] = ()
    """Patterns of parameters that must all learn: none may be frozen or left out (``"*"``: nothing is frozen here)."""
    unused: Sequence[str] = ()
    """Patterns of parameters that get no gradient on purpose."""
    shuffled: bool = False
    """Whether training samples must come in a random order, another one in every epoch."""
    accumulation: int | None = None
    """Backward passes per optimizer step."""
    planned_steps: int | None = None
    """Optimizer steps that a run of ``max_steps`` is to take."""
    causal: bool = False
    """Whether the model must not look ahead in the last dimension of its input."""
    memory_budget_mb: float | None = None
    """Largest peak of allocated device memory."""
    atomic: bool = False
    """Whether every checkpoint must be written under another name first, then renamed."""
    verify: Callable[[Path], Iterable[str]] | None = None
    """Given the workdir of the straight run, yield what is wrong with what it left, a sentence each."""
    facts: Callable[[Path], Mapping[str, Any]] | None = None
    """Given the workdir of the straight run, return what the summary shows of it (recordings, windows, ...)."""
    timeout_s: float | None = None
    """How long one run may take before it is stopped; None: what the caller says (``--smoke-timeout``)."""

    def __post_init__(self) -> None:
        if (self.train is None) == (self.script is None):
            message = f"target {self.name!r}: give either train or script"
            raise TypeError(message)
        if not self.name or any(sign in self.name for sign in "[]:/\\ "):
            message = f"target name {self.name!r}: letters, digits, '-', '_' and '.' only"
            raise ValueError(message)
        if self.timeout_s is not None and not 0 < self.timeout_s < math.inf:
            message = f"target {self.name!r}: timeout_s: got {self.timeout_s!r}, expected a positive number of seconds"
            raise ValueError(message)
        self._check_templates()

    def _check_templates(self) -> None:
        for name, (word, needed) in TEMPLATES.items():
            template = getattr(self, name)
            if template is None:
                continue
            if self.script is None:
                message = f"target {self.name!r}: {name} is for scripts; a callable is told by its Run"
                raise TypeError(message)
            # What looks like another placeholder is a slip, not an argument.
            words = re.findall(r"\{([^{}]*)\}", template)
            if not template.strip() or set(words) - {word} or (needed and not words):
                message = f"target {self.name!r}: {name}: got {template!r}, expected something like {EXAMPLES[name]!r}"
                raise ValueError(message)
            try:
                shlex.split(template)
            except ValueError as error:
                message = f"target {self.name!r}: {name}: {template!r} cannot be split into arguments: {error}"
                raise ValueError(message) from error
        if self.resume_argument is not None and self.resumable is None:
            object.__setattr__(self, "resumable", True)

    def declared_failures(self) -> dict[str, str]:
        """Return check id -> reason of the failures declared by ``expected_failures`` and ``marks``.

        Raises:
            ValueError: a declaration without a check or a reason.
        """
        declared = dict(self.expected_failures)
        for mark in self.marks:
            if mark.name == EXPECTED_FAILURE:
                check, reason = expected_failure(mark)
                if check is None:
                    message = f"target {self.name!r}: {EXPECTED_FAILURE} on a target needs the id of a check"
                    raise ValueError(message)
                declared[check] = reason
        if not all(str(reason).strip() for reason in declared.values()):
            message = f"target {self.name!r}: an expected failure needs a reason"
            raise ValueError(message)
        return declared

    def told(self, *, seed: int, max_steps: int, resume_from: str | os.PathLike[str] | None = None) -> list[str]:
        """Return what is appended to the script's command for one run: seed, steps and checkpoint."""
        values = {"seed": str(seed), "steps": str(max_steps), "checkpoint": os.fspath(resume_from or "")}
        wanted = [self.seed_argument, self.steps_argument, self.resume_argument if resume_from is not None else None]
        told = []
        for template in filter(None, wanted):
            for part in shlex.split(template):
                for word, value in values.items():
                    part = part.replace(f"{{{word}}}", value)  # noqa: PLW2901 (one word after the other)
                told.append(part)
        return told
