"""What a child process is told: plain data in a JSON file, and a pickle for callables."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Spec:
    """One run of a target in a fresh process."""

    name: str
    """Name of the target."""
    plan: str
    workdir: str
    trace: str
    """Folder for the record."""
    pickle: str | None
    """File with the pickled (train, prepare), None for a script without preparation."""
    script: Sequence[str] | None
    seed: int = 0
    max_steps: int = 6
    resume_from: str | None = None
    data: str = "normal"
    environment: Mapping[str, str] = field(default_factory=dict)
    limit: int | None = None
    """Iterations after which the run is stopped from outside."""
    watched: bool = True
    probes: bool = False
    """Whether the model is called from outside once the run is over: the run is spoilt by then."""
    probe_input: str | None = None
    """File where the first input of the model is kept for the fixed-batch probe, or taken from if it exists."""
    causal: bool = False
    touch: Sequence[str] = ()
    """Files below the workdir that are changed after ``prepare``."""
    relabel: Sequence[Mapping[str, Any]] = ()
    """Labels that are changed where loaders hand them out (:mod:`pytest_brainbrr.label_places`)."""
    cut: Mapping[str, int] | None = None
    """Where loaders are made shorter: id of one that trains -> its batches (:mod:`pytest_brainbrr.cutting`)."""
    prepared: bool = False
    """Whether the parent has laid out the data already (a copied workdir)."""
    sys_path: Sequence[str] = ()
    cwd: str = "."

    def write(self, path: Path) -> None:
        """Write as JSON."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Spec":
        """Read what :meth:`write` wrote."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))
