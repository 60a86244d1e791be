"""Which kernel computes the Mamba-2 scan: mamba-ssm's on CUDA, or the exact scan in PyTorch anywhere.

Both compute the same function of the same weights. The choice is made by configuration, logged once and readable for
the run's record; nothing falls back in silence.

The CUDA path has not been run by us: no CUDA device was at hand.
"""

import importlib.util
import logging
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from brainbrr.errors import ConfigError

if TYPE_CHECKING:
    from brainbrr.models.mamba import Mamba2

Kernel = Literal["auto", "cuda", "torch"]
Resolved = Literal["cuda", "torch"]

logger = logging.getLogger(__name__)

CUDA_CHUNK_SIZE = 256
"""mamba-ssm's default: its kernels are tuned for it, while a CPU wants small chunks."""
PACKAGES = ("mamba_ssm", "causal_conv1d")


MISSING = tuple(name.replace("_", "-") for name in PACKAGES if importlib.util.find_spec(name) is None)
"""Which of mamba-ssm and causal-conv1d are not installed; neither is imported to find out."""

_announced: set[tuple[Resolved, str]] = set()


def resolve_kernel(kernel: Kernel, device: torch.device) -> Resolved:
    """Say which kernel runs for a tensor on ``device``.

    Raises:
        ConfigError: ``cuda`` was asked for where it cannot run.
    """
    if kernel == "torch":
        return "torch"
    if kernel == "auto":
        taken: Resolved = "cuda" if device.type == "cuda" and not MISSING else "torch"
        if not torch.compiler.is_compiling():
            _announce(taken, device.type)
        return taken
    where = "model.mamba.kernel"
    if device.type != "cuda":
        raise ConfigError(
            "the CUDA kernel needs a CUDA device",
            where=where,
            got=f"cuda on {device.type}",
            expected="auto or torch here",
            hint="Set model.mamba.kernel to auto: the weights are the same",
        )
    if MISSING:
        raise ConfigError(
            "the CUDA kernel needs packages that are not installed",
            where=where,
            got=f"cuda without {' and '.join(MISSING)}",
            hint="Install them with: pip install 'brainbrr[cuda]', or set model.mamba.kernel to torch",
        )
    return "cuda"


def _announce(taken: Resolved, device_type: str) -> None:
    if (taken, device_type) not in _announced:
        _announced.add((taken, device_type))
        why = f"not installed: {', '.join(MISSING)}" if MISSING else "all packages installed"
        logger.info("Mamba-2 kernel: %s (auto; device %s; %s)", taken, device_type, why)


def cuda_scan(layer: "Mamba2", zxbcdt: Tensor) -> Tensor:
    """Convolve, scan and gate with mamba-ssm's fused kernels; (B, L, rows of in_proj) to (B, L, E)."""
    from mamba_ssm.ops.triton.ssd_combined import mamba_split_conv1d_scan_combined  # CUDA only

    out: Tensor = mamba_split_conv1d_scan_combined(
        zxbcdt,
        layer.conv1d.weight.squeeze(1),
        layer.conv1d.bias,
        layer.dt_bias,
        -torch.exp(layer.A_log.float()),
        D=layer.D,
        chunk_size=CUDA_CHUNK_SIZE,
        activation="silu",
        rmsnorm_weight=layer.norm.weight,
        rmsnorm_eps=layer.norm.eps,
        headdim=layer.headdim,
        ngroups=layer.ngroups,
        norm_before_gate=False,
    )
    return out
