"""Mamba-2 with the parameters, names, shapes and initialisation of ``mamba_ssm.Mamba2``, on every device.

Sources: Dao and Gu, "Transformers are SSMs" (2024); state-spaces/mamba, ``mamba_ssm/modules/mamba2.py`` (2.3.1), whose
state dict this module takes and gives with ``strict=True``.

Letters: B batch, L length, D width (d_model), E inner width (d_inner), H heads, P channels of a head, G groups of
heads, N state.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from brainbrr.models.fused import conv_silu, gated_rms_norm, no_autocast
from brainbrr.models.kernels import Kernel, cuda_scan, resolve_kernel
from brainbrr.models.ssd import ssd_scan


class GatedRMSNorm(nn.Module):
    """Normalise ``y * silu(z)`` to unit root mean square within each group of channels, and scale it."""

    def __init__(self, channels: int, groups: int = 1, eps: float = 1e-5) -> None:
        super().__init__()
        self.groups = groups
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, y: Tensor, z: Tensor) -> Tensor:
        """Map two (..., E) to (..., E)."""
        return gated_rms_norm(y, z, self.weight, self.groups, self.eps)


class Mamba2(nn.Module):
    """A causal sequence layer, (B, L, D) to (B, L, D)."""

    def __init__(
        self,
        d_model: int,
        *,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        headdim: int = 64,
        ngroups: int = 1,
        chunk_size: int = 32,
        kernel: Kernel = "auto",
    ) -> None:
        super().__init__()
        self.d_inner = expand * d_model
        self.d_state = d_state
        self.headdim = headdim
        self.ngroups = ngroups
        self.chunk_size = chunk_size
        self.kernel: Kernel = kernel
        heads = self.d_inner // headdim
        conv_channels = self.d_inner + 2 * ngroups * d_state
        # The order of the draws is mamba-ssm's: the same seed gives the same layer.
        self.in_proj = nn.Linear(d_model, self.d_inner + conv_channels + heads, bias=False)
        self.conv1d = nn.Conv1d(conv_channels, conv_channels, d_conv, groups=conv_channels, padding=d_conv - 1)
        self.dt_bias = nn.Parameter(_initial_dt_bias(heads))
        self.A_log = nn.Parameter(torch.empty(heads).uniform_(1, 16).log())
        self.D = nn.Parameter(torch.ones(heads))
        for parameter in (self.dt_bias, self.A_log, self.D):
            parameter._no_weight_decay = True  # type: ignore[attr-defined]  # mamba-ssm's mark
        self.norm = GatedRMSNorm(self.d_inner, ngroups)
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=False)

    def forward(self, u: Tensor) -> Tensor:
        """Map (B, L, D) to (B, L, D); step t sees steps up to t only."""
        zxbcdt = self.in_proj(u)
        mix = cuda_scan if resolve_kernel(self.kernel, u.device) == "cuda" else torch_scan
        out: Tensor = self.out_proj(mix(self, zxbcdt))
        return out


def torch_scan(layer: Mamba2, zxbcdt: Tensor) -> Tensor:
    """Convolve, scan and gate in at least float32; (B, L, rows of in_proj) to (B, L, E), in the dtype given."""
    dtype = torch.promote_types(zxbcdt.dtype, torch.float32)
    assert layer.conv1d.bias is not None
    # In a model that was cast as a whole the weights are of another dtype; elsewhere this costs nothing.
    conv_weight, conv_bias, dt_bias, a_log, d = (
        p.to(dtype) for p in (layer.conv1d.weight[:, 0], layer.conv1d.bias, layer.dt_bias, layer.A_log, layer.D)
    )
    batch, length, _ = zxbcdt.shape
    heads, groups, state = len(d), layer.ngroups, layer.d_state
    with no_autocast(zxbcdt.device):
        z, xbc, dt = torch.split(zxbcdt.to(dtype), [layer.d_inner, layer.conv1d.in_channels, heads], dim=-1)
        xbc = conv_silu(xbc, conv_weight, conv_bias)
        x, b, c = torch.split(xbc, [layer.d_inner, groups * state, groups * state], dim=-1)
        x = x.reshape(batch, length, heads, layer.headdim)
        b, c = (t.reshape(batch, length, groups, state) for t in (b, c))
        y = ssd_scan(x, functional.softplus(dt + dt_bias), -a_log.exp(), b, c, d, layer.chunk_size)
        normed: Tensor = layer.norm(y.reshape(batch, length, layer.d_inner), z)
        return normed.to(zxbcdt.dtype)


def _initial_dt_bias(heads: int, low: float = 1e-3, high: float = 1e-1, floor: float = 1e-4) -> Tensor:
    """Return the inverse softplus of step sizes drawn log-uniformly from [low, high]."""
    dt = torch.exp(torch.rand(heads) * (math.log(high) - math.log(low)) + math.log(low)).clamp(min=floor)
    return dt + torch.log(-torch.expm1(-dt))
