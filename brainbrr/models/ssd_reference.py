"""The state-space recurrence of Mamba-2 one step at a time: slow, and obvious enough to be believed."""

import torch
from torch import Tensor


def ssd_reference(x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """Scan a sequence from a zero state; arguments and result as in :func:`brainbrr.models.ssd.ssd_scan`."""
    heads, groups = x.shape[2], b.shape[2]
    b = b.repeat_interleave(heads // groups, dim=2)
    c = c.repeat_interleave(heads // groups, dim=2)
    h = x.new_zeros(x.shape[0], heads, b.shape[-1], x.shape[-1])  # (B, H, N, P)
    outputs = []
    for t in range(x.shape[1]):
        decay = torch.exp(dt[:, t] * a)[..., None, None]
        h = decay * h + dt[:, t, :, None, None] * b[:, t, :, :, None] * x[:, t, :, None, :]
        outputs.append((c[:, t, :, None, :] @ h).squeeze(-2))
    return torch.stack(outputs, dim=1) + d[:, None] * x
