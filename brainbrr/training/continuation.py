"""Where a run starts from, and whether it may."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brainbrr.config import Config
from brainbrr.errors import CheckpointError, ConfigError
from brainbrr.training import distributed
from brainbrr.training.checkpoints import latest_checkpoint, read_checkpoint
from brainbrr.training.output import OutputFolder

log = logging.getLogger(__name__)

# What may differ between a run and its continuation: where files go and how fast it is, not what is computed.
FREE = ("run.name", "run.output_dir", "run.existing", "run.device", "training.pause_at_step", "training.workers",
        "training.log_every_steps", "checkpoints", "tracking", "cache", "scoring", "data.directory")  # fmt: skip


@dataclass(frozen=True)
class Start:
    """A checkpoint to start from."""

    path: Path
    content: dict[str, Any]
    in_place: bool
    """Whether it is of the run in the output folder, whose metrics log goes on."""

    @property
    def smoke(self) -> bool:
        """Whether a smoke run wrote it."""
        return bool(self.content["smoke"])


def find_start(folder: OutputFolder, resume: Path | None) -> Start | None:
    """Return the checkpoint to start from, or None for a start from nothing.

    Args:
        folder: its newest whole checkpoint is taken unless ``resume`` names one.
        resume: a checkpoint that the user named; a damaged one is an error then, never replaced by another.
    """
    if resume is not None:
        content = read_checkpoint(resume)
        log.info("resuming from %s, step %d", resume, content["step"])
        return Start(resume, content, resume.resolve().parent == folder.checkpoints.resolve())
    found = latest_checkpoint(folder.checkpoints)
    if found is None:
        return None
    path, content = found
    if distributed.is_writer():
        log.info("continuing the run in %s after step %d (--fresh starts over)", folder.root, content["step"])
    return Start(path, content, in_place=True)


def check_start(start: Start, config: Config, *, smoke: bool, override: bool) -> list[str]:
    """Return the keys of the configuration that changed; refuse a checkpoint that this run must not go on from.

    Raises:
        CheckpointError: it is marked as a smoke run's and smoke mode is off (or the reverse, in
            the run's own folder), or it is of another encoder.
        ConfigError: the configuration changed, key by key, and ``override`` is off.
    """
    refuse_smoke(start.path, start.content, smoke=smoke)
    if smoke and start.in_place and not start.smoke:
        raise CheckpointError(
            "a smoke run would go on in the folder of a training run",
            where=start.path,
            hint="Unset BGB_SMOKE_TEST, or name another folder with --output-dir",
        )
    before, now = start.content["config"], config.model_dump(mode="json")
    encoders = [tree["model"]["encoder"]["name"] for tree in (before, now)]
    if encoders[0] != encoders[1]:
        raise CheckpointError(
            "a checkpoint of another encoder", where=start.path, got=encoders[0], expected=encoders[1]
        )
    changes = list(differences(before, now))
    if not changes:
        return []
    shown = "; ".join(f"{key}: {was!r} -> {is_!r}" for key, was, is_ in changes)
    if not override:
        raise ConfigError(
            "the configuration is not that of the run to continue",
            where=start.path,
            got=shown,
            hint="--override-config goes on with the new one, --fresh starts over",
        )
    log.warning("going on with another configuration: %s", shown)
    return [key for key, _, _ in changes]


def refuse_smoke(path: Path, content: Mapping[str, Any], *, smoke: bool) -> None:
    """Refuse the checkpoint of a smoke run unless smoke mode is on.

    Raises:
        CheckpointError: it is marked and smoke mode is off.
    """
    if content["smoke"] and not smoke:
        raise CheckpointError(
            "the checkpoint of a smoke run (BGB_SMOKE_TEST=1): not for training, its weights are worthless",
            where=path,
            hint="Train without BGB_SMOKE_TEST (--fresh starts over in this folder)",
        )


def differences(before: Any, now: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield (key, before, now) for every value that differs, keys that may differ left out.

    >>> list(differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 3, "c": 2}}))
    [('a.b', 1, 3)]
    """
    if key in FREE or before == now:
        return
    if isinstance(before, dict) and isinstance(now, dict):
        for name in dict.fromkeys([*before, *now]):
            yield from differences(before.get(name), now.get(name), f"{key}.{name}".lstrip("."))
    else:
        yield key, before, now


def check_same_data(start: Start, facts: Mapping[str, Any], *, override: bool) -> bool:
    """Say whether recordings, windows and planned steps are those of the run; go on over others only when told to.

    Raises:
        ConfigError: something differs and ``override`` is off.
    """
    changes = list(differences(start.content["data"], dict(facts)))
    if not changes:
        return True
    shown = "; ".join(f"{key}: {was} -> {is_}" for key, was, is_ in changes)
    if not override:
        raise ConfigError(
            "the training data is not that of the run to continue",
            where=start.path,
            got=shown,
            hint="Check data.directory, BGB_DATA_DIR and BGB_LIMIT_FILES; --override-config goes on anyway",
        )
    log.warning("going on with other data: %s", shown)
    return bool(start.content["data"]["fingerprint"] == facts["fingerprint"])
