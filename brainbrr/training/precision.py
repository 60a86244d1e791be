"""Device, threads and number formats of a run, put back as they were when it ends."""

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch

from brainbrr.config.training import Run, Training
from brainbrr.errors import ConfigError
from brainbrr.training import distributed


def choose_device(run: Run) -> torch.device:
    """Return the device of this process.

    Raises:
        ConfigError: ``run.device`` is ``cuda`` and there is none.
    """
    available = torch.cuda.is_available()
    if run.device == "cuda" and not available:
        raise ConfigError("no CUDA device here", where="run.device", got="'cuda'", expected="'cpu' or 'auto'")
    if run.device == "cpu" or not available:
        return torch.device("cpu")
    return torch.device("cuda", distributed.local_rank())


@contextlib.contextmanager
def numerics(run: Run, device: torch.device) -> Iterator[None]:
    """Apply ``run.threads``, ``run.deterministic`` and ``run.tf32`` for the length of the block."""
    threads = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    matmul, conv = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    try:
        if run.threads is not None:
            torch.set_num_threads(run.threads)
        torch.use_deterministic_algorithms(run.deterministic or deterministic)
        if device.type == "cuda":
            torch.cuda.set_device(device)
            torch.backends.cuda.matmul.allow_tf32 = run.tf32
            torch.backends.cudnn.allow_tf32 = run.tf32
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
        if device.type == "cuda":
            torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, conv


def autocast(training: Training, device: torch.device) -> AbstractContextManager[Any]:
    """Return a fresh autocast block of ``training.precision``."""
    match training.precision:
        case "fp32":
            return contextlib.nullcontext()
        case "bf16":
            return torch.autocast(device.type, dtype=torch.bfloat16)
        case "fp16":
            return torch.autocast(device.type, dtype=torch.float16)


def build_scaler(training: Training, device: torch.device) -> torch.amp.GradScaler:
    """Return the loss scaler: enabled for fp16, which is refused without CUDA.

    Raises:
        ConfigError: fp16 on the CPU.
    """
    if training.precision == "fp16" and device.type != "cuda":
        raise ConfigError(
            "fp16 needs CUDA", where="training.precision", got="'fp16' on the CPU", expected="'bf16' or 'fp32'"
        )
    return torch.amp.GradScaler(device.type, enabled=training.precision == "fp16")
