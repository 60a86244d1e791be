"""The state-space scan of Mamba-2, exact, by chunks: matrix products inside a chunk, a recurrence between chunks.

    h_t = exp(dt_t a) h_{t-1} + dt_t B_t x_t        y_t = C_t h_t + D x_t

Source: Dao and Gu, "Transformers are SSMs" (2024), section 6. Where this differs from the paper's listing: the product
C B^T is made once for all heads of a group; the recurrence between chunks is a loop, linear in L (the listing is
quadratic in the number of chunks); the backward pass is written by hand and makes the decays again, so that no matrix
of Q by Q per head outlives the forward pass.

Letters: B batch, L length, H heads, P channels of a head (headdim), G groups of heads, R = H / G, N state (d_state);
C chunks of Q steps. "Chunked" tensors are contiguous (B, C, G, R, Q, ...).
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from brainbrr.models.fused import no_autocast


def ssd_scan(x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, chunk_size: int = 32) -> Tensor:
    """Scan a sequence from a zero state.

    Args:
        x: (B, L, H, P) input.
        dt: (B, L, H) step sizes, positive.
        a: (H,) decay rates, negative.
        b: (B, L, G, N) input weights; H is a multiple of G.
        c: (B, L, G, N) output weights.
        d: (H,) weights of the direct path.
        chunk_size: steps per chunk; any L works.

    Returns:
        (B, L, H, P). All arguments share one dtype, float32 or float64, and the state is kept in it.
    """
    length = x.shape[1]
    pad = -length % chunk_size
    if pad:  # dt = 0 neither decays the state nor adds to it
        x, b, c = (functional.pad(t, (0, 0, 0, 0, 0, pad)) for t in (x, b, c))
        dt = functional.pad(dt, (0, 0, 0, pad))
    y: Tensor = _Scan.apply(x, dt, a, b, c, d, chunk_size)  # type: ignore[no-untyped-call]  # torch's stub
    return y[:, :length] if pad else y


class _Decays(NamedTuple):
    """How much of a chunk's input, state and output is left where; all in (0, 1]."""

    pairs: Tensor  # (B, C, G, R, Q, Q): from step j to step i, zero above the diagonal
    from_start: Tensor  # (B, C, G, R, Q, 1): from the chunk's start to step i, i's own decay included
    to_end: Tensor  # (B, C, G, R, Q, 1): from step j to the chunk's end
    whole: Tensor  # (B, C, G, R, 1, 1): over the whole chunk


def _decays(steps: Tensor) -> _Decays:
    """Return the decays of chunked log steps (B, C, G, R, Q)."""
    total = steps.cumsum(-1)  # non-increasing
    pairs = total[..., :, None] - total[..., None, :]
    # Below the diagonal the difference is never positive, so the clamp changes nothing there; above it, where tril
    # sets zeros, it keeps exp finite.
    pairs.clamp_(max=0).exp_().tril_()
    last = total[..., -1:]
    return _Decays(pairs, total.exp()[..., None], (last - total).exp_()[..., None], last.exp()[..., None])


def _chunked(x: Tensor, groups: int, chunk_size: int) -> Tensor:
    """View (B, L, H, ...) as (B, C, G, R, Q, ...), without a copy."""
    batch, length, heads, *rest = x.shape
    x = x.view(batch, length // chunk_size, chunk_size, groups, heads // groups, *rest)
    return x.movedim(2, 4)


def _product(left: Tensor, right: Tensor) -> Tensor:
    """Multiply chunked contiguous matrices as one batch."""
    rows, inner, columns = left.shape[-2], left.shape[-1], right.shape[-1]
    out = torch.bmm(_flat(left, rows, inner), _flat(right, inner, columns))
    return out.view(*left.shape[:-2], rows, columns)


def _add_product(out: Tensor, left: Tensor, right: Tensor) -> None:
    """Add the product of chunked contiguous matrices to ``out``."""
    rows, inner, columns = left.shape[-2], left.shape[-1], right.shape[-1]
    out.view(-1, rows, columns).baddbmm_(_flat(left, rows, inner), _flat(right, inner, columns))


def _flat(matrices: Tensor, rows: int, columns: int) -> Tensor:
    # A transposed contiguous matrix is flattened as what it is in memory: the batch product reads it in place.
    if matrices.stride(-1) == 1:
        return matrices.reshape(-1, rows, columns)
    return matrices.mT.reshape(-1, columns, rows).mT


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, chunk_size: int) -> Tensor:
        groups = b.shape[2]
        dt_q, input_q, b_q, c_q = _inputs(x, dt, b, c, chunk_size)
        decays = _decays(dt_q * a.view(groups, -1, 1))
        scores = decays.pairs.mul_((c_q @ b_q.mT)[:, :, :, None])
        y = _product(scores, input_q)
        del scores
        starts = _product((b_q[:, :, :, None] * decays.to_end).mT, input_q)  # what each chunk adds, in place of starts
        carried = torch.zeros_like(starts[:, 0])
        for chunk in range(starts.shape[1]):
            added = starts[:, chunk].clone()
            starts[:, chunk] = carried
            carried = added.addcmul_(decays.whole[:, chunk], carried)
        _add_product(y, c_q[:, :, :, None] * decays.from_start, starts)
        ctx.save_for_backward(x, dt, a, b, c, d, starts)
        ctx.chunk_size = chunk_size
        return _merged(y.addcmul_(_chunked(x, groups, chunk_size), d.view(groups, -1, 1, 1)), x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        with no_autocast(dy.device):
            x, dt, a, b, c, d, starts = ctx.saved_tensors
            return *_backward(dy.contiguous(), x, dt, a, b, c, d, starts, ctx.chunk_size), None


def _inputs(x: Tensor, dt: Tensor, b: Tensor, c: Tensor, chunk_size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return dt (B, C, G, R, Q), x dt (B, C, G, R, Q, P), b and c (B, C, G, Q, N), contiguous."""
    groups = b.shape[2]
    dt_q = _chunked(dt, groups, chunk_size).contiguous()
    input_q = _chunked(x, groups, chunk_size).clone(memory_format=torch.contiguous_format).mul_(dt_q[..., None])
    b_q, c_q = (_chunked(t, groups, chunk_size).squeeze(3).contiguous() for t in (b, c))
    return dt_q, input_q, b_q, c_q


def _backward(
    dy: Tensor,
    x: Tensor,
    dt: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    d: Tensor,
    starts: Tensor,
    chunk_size: int,
) -> tuple[Tensor, ...]:
    """Return the gradients of x, dt, a, b, c, d.

    The decay between steps j < i of a chunk is a sum of the log steps k with j < k <= i. So the gradient of step k
    gathers, over all pairs around it, gradient times value: inside the chunk from the pairs of ``weights``, from the
    chunk's start to the outputs i >= k, from the inputs j < k to the chunk's end, and over the whole chunk. Each is
    summed as such; differences of running totals would cancel where the decay is strong.
    """
    groups = b.shape[2]
    dt_q, input_q, b_q, c_q = _inputs(x, dt, b, c, chunk_size)
    a_q, d_q = a.view(groups, -1, 1), d.view(groups, -1, 1, 1)
    decays = _decays(dt_q * a_q)
    products = (c_q @ b_q.mT)[:, :, :, None]
    dy_q = _chunked(dy, groups, chunk_size).contiguous()

    # Between chunks: each start passes its gradient to the chunk before, as the end of that chunk's state.
    from_start = c_q[:, :, :, None] * decays.from_start
    ends = _product(from_start.mT, dy_q)  # the gradient of each chunk's start, in place of the one of its end
    dwhole = torch.empty_like(decays.whole)
    carried = torch.zeros_like(ends[:, 0])
    for chunk in reversed(range(ends.shape[1])):
        start = ends[:, chunk].clone()
        ends[:, chunk] = carried
        dwhole[:, chunk] = (starts[:, chunk] * carried).sum((-2, -1), keepdim=True)
        carried = start.addcmul_(decays.whole[:, chunk], carried)
    dfrom_start = _product(dy_q, starts.mT).mul_(decays.from_start)  # now of c
    dto_end = _product(input_q, ends.mT).mul_(decays.to_end)  # now of b
    to_end = b_q[:, :, :, None] * decays.to_end
    del from_start, starts
    dsteps = (dwhole * decays.whole)[..., 0].expand_as(dt_q).clone()
    dsteps += (dfrom_start * c_q[:, :, :, None]).sum(-1).flip(-1).cumsum(-1).flip(-1)
    before = (dto_end * b_q[:, :, :, None]).sum(-1)
    dsteps += before.cumsum(-1) - before

    # Inside a chunk.
    dscores = _product(dy_q, input_q.mT).mul_(decays.pairs)
    del input_q  # what is no longer needed goes before the next large piece comes: this is the step's peak of memory
    dproducts = dscores.sum(3)
    dsteps += _around(dscores.mul_(products))
    del dscores
    dinput = _product(decays.pairs.mul_(products).mT, dy_q)
    _add_product(dinput, to_end, ends)
    del decays, ends, to_end

    dc = dfrom_start.sum(3) + dproducts @ b_q
    db = dto_end.sum(3) + dproducts.mT @ c_q
    x_q = _chunked(x, groups, chunk_size)
    ddt = (dinput * x_q).sum(-1).addcmul_(dsteps, a_q)
    da = (dsteps * dt_q).sum((0, 1, 4)).view_as(a)
    dd = (dy_q * x_q).sum((0, 1, 4, 5)).view_as(d)
    dx = dinput.mul_(dt_q[..., None]).addcmul_(dy_q, d_q)
    return _merged(dx, x), _merged(ddt, dt), da, _merged(db, b), _merged(dc, c), dd


def _around(weights: Tensor) -> Tensor:
    """Sum over i >= k > j, for each step k, the weights (..., Q, Q) of pairs (i, j)."""
    size = weights.shape[-1]
    up_to = torch.ones(size, size, dtype=weights.dtype, device=weights.device).tril_(-1)
    rows = (weights.view(-1, size) @ up_to.mT).view_as(weights)  # [i, k]: the pairs (i, j) with j < k
    return rows.tril_().sum(-2)


def _merged(chunked: Tensor, like: Tensor) -> Tensor:
    """Return what is chunked, (B, C, G, R, Q, ...) or (B, C, G, Q, N), in the layout of ``like`` (B, L, ...)."""
    step = 4 if chunked.ndim == like.ndim + 2 else 3
    return chunked.movedim(step, 2).reshape(like.shape)
