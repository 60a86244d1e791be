"""The state-space scan of Mamba-2, exact, by chunks: matrix products inside a chunk, a recurrence between chunks.

    h_t = exp(dt_t A) h_{t-1} + dt_t B_t x_t        y_t = C_t h_t

Source: Dao and Gu, "Transformers are SSMs" (2024), section 6. Where this differs from the paper's listing: the product
C B^T is made once for all heads of a group, the recurrence between chunks is a loop (linear in L; the listing is
quadratic in the number of chunks), and a last chunk may be short.

Letters: B batch, L length, H heads, P channels of a head (headdim), G groups of heads, N state (d_state); C chunks of
Q steps.
"""

import torch
from torch import Tensor
from torch.nn import functional


def ssd_scan(x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, chunk_size: int = 64) -> Tensor:
    """Scan a sequence from a zero state.

    Args:
        x: (B, L, H, P) input.
        dt: (B, L, H) step sizes, positive.
        a: (H,) decay rates, negative.
        b: (B, L, G, N) input weights; H is a multiple of G.
        c: (B, L, G, N) output weights.
        chunk_size: steps per chunk; any L works.

    Returns:
        (B, L, H, P), in x's dtype. Give float32 or float64: the state is kept in the dtype of the input.
    """
    batch, length, heads, headdim = x.shape
    groups, state = b.shape[2:]
    pad = -length % chunk_size
    if pad:  # dt = 0 neither decays the state nor adds to it
        x, b, c = (functional.pad(t, (0, 0, 0, 0, 0, pad)) for t in (x, b, c))
        dt = functional.pad(dt, (0, 0, 0, pad))
    chunks = (length + pad) // chunk_size
    x = (x * dt[..., None]).view(batch, chunks, chunk_size, groups, heads // groups, headdim).permute(0, 1, 3, 4, 2, 5)
    b = b.view(batch, chunks, chunk_size, groups, state).permute(0, 1, 3, 2, 4)
    c = c.view(batch, chunks, chunk_size, groups, state).permute(0, 1, 3, 2, 4)
    steps = (dt * a).view(batch, chunks, chunk_size, groups, heads // groups).permute(0, 1, 3, 4, 2)
    log_decay = steps.cumsum(-1)  # (B, C, G, H/G, Q), non-increasing

    # Inside a chunk. Below the diagonal the difference is never positive, so the clamp changes nothing there; above it,
    # where the product is masked, it keeps exp finite and with it the gradient.
    difference = (log_decay[..., :, None] - log_decay[..., None, :]).clamp(max=0)
    scores = (c @ b.transpose(-1, -2)).tril()[:, :, :, None] * difference.exp()
    y = scores @ x

    # Between chunks.
    to_end = (log_decay[..., -1:] - log_decay).exp()
    added = b[:, :, :, None].transpose(-1, -2) @ (x * to_end[..., None])  # (B, C, G, H/G, N, P)
    whole = log_decay[..., -1].exp()[..., None, None]
    carried = torch.zeros_like(added[:, 0])
    starts = []
    for chunk in range(chunks):
        starts.append(carried)
        carried = whole[:, chunk] * carried + added[:, chunk]
    y = y + (c[:, :, :, None] @ torch.stack(starts, 1)) * log_decay.exp()[..., None]
    return y.permute(0, 1, 4, 2, 3, 5).reshape(batch, length + pad, heads, headdim)[:, :length]
