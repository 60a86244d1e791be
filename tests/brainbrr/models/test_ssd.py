"""The chunked scan against the recurrence it stands for."""

import pytest
import torch

from brainbrr.models.ssd import ssd_scan
from brainbrr.models.ssd_reference import ssd_reference

NAMES = ("x", "dt", "a", "b", "c", "d")

# batch, length, heads, headdim, groups, state, chunk
GRID = [
    (2, 64, 2, 8, 1, 16, 16),
    (1, 32, 4, 4, 2, 8, 32),
    (2, 37, 4, 8, 2, 8, 16),
    (1, 5, 2, 4, 1, 8, 64),
    (3, 1, 2, 4, 2, 8, 16),
    (1, 33, 6, 4, 3, 8, 32),
    (2, 130, 3, 5, 1, 3, 64),
]


def arguments(batch, length, heads, headdim, groups, state, *, rate=1.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(length)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    drawn = (
        draw(batch, length, heads, headdim),
        draw(batch, length, heads).exp() * 0.1 * rate,
        -draw(heads).exp(),
        draw(batch, length, groups, state),
        draw(batch, length, groups, state),
        draw(heads),
    )
    return tuple(t.to(dtype).requires_grad_() for t in drawn), draw(batch, length, heads, headdim)


def value_and_gradients(scan, args, weights, *rest):
    y = scan(*args, *rest)
    return y, torch.autograd.grad((y * weights.to(y.dtype)).sum(), args)


@pytest.mark.parametrize("rate", [0.01, 1.0, 100.0], ids=["slow", "normal", "fast"])
@pytest.mark.parametrize("shape", GRID, ids=lambda shape: "-".join(map(str, shape)))
def test_float64_equals_the_recurrence(shape, rate):
    *sizes, chunk = shape
    args, weights = arguments(*sizes, rate=rate)
    y, gradients = value_and_gradients(ssd_scan, args, weights, chunk)
    y_ref, gradients_ref = value_and_gradients(ssd_reference, args, weights)
    torch.testing.assert_close(y, y_ref, rtol=1e-9, atol=1e-9)
    for name, ours, reference in zip(NAMES, gradients, gradients_ref, strict=True):
        scale = max(reference.abs().max().item(), 1)
        torch.testing.assert_close(ours / scale, reference / scale, rtol=1e-9, atol=1e-9, msg=name)


@pytest.mark.parametrize("shape", GRID, ids=lambda shape: "-".join(map(str, shape)))
def test_float32_is_within_tolerance_of_the_float64_recurrence(shape):
    """1e-5 of the largest value, 1e-4 of the largest gradient."""
    *sizes, chunk = shape
    args, weights = arguments(*sizes, dtype=torch.float32)
    y, gradients = value_and_gradients(ssd_scan, args, weights, chunk)
    exact = tuple(t.detach().double().requires_grad_() for t in args)
    y_ref, gradients_ref = value_and_gradients(ssd_reference, exact, weights)
    torch.testing.assert_close(y.double(), y_ref, rtol=0, atol=1e-5 * y_ref.abs().max().item())
    for name, ours, reference in zip(NAMES, gradients, gradients_ref, strict=True):
        bound = 1e-4 * reference.abs().max().item()
        torch.testing.assert_close(ours.double(), reference, rtol=0, atol=bound, msg=name)


def test_gradients_stay_exact_where_the_decay_is_strong():
    """Differences of running totals would cancel here: every step forgets all but e^-80 of the past."""
    args, weights = arguments(1, 64, 2, 8, 1, 8, dtype=torch.float32)
    x, dt, a, *rest = args
    args = (x, torch.full_like(dt, 5).requires_grad_(), torch.full_like(a, -16).requires_grad_(), *rest)
    y, gradients = value_and_gradients(ssd_scan, args, weights, 32)
    assert y.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients)
    largest = gradients[NAMES.index("x")].abs().max()
    # In float32 the exact gradient of the decay rate, about e^-80 of the others, is lost in a difference's rounding.
    assert gradients[NAMES.index("a")].abs().max() < 1e-20 * largest


def test_a_step_of_zero_neither_decays_nor_adds():
    (x, dt, a, b, c, d), _ = arguments(1, 40, 2, 4, 1, 8)
    with torch.no_grad():
        dt[:, 20:] = 0
        y = ssd_scan(x, dt, a, b, c, torch.zeros_like(d), 16)
        held = torch.einsum("bhnp,bln->blhp", _state_after(x, dt, a, b, 20), c[:, 20:, 0])
    torch.testing.assert_close(y[:, 20:], held, rtol=1e-12, atol=1e-12)


def _state_after(x, dt, a, b, steps):
    h = x.new_zeros(x.shape[0], x.shape[2], b.shape[-1], x.shape[-1])
    for t in range(steps):
        decay = torch.exp(dt[:, t] * a)[..., None, None]
        h = decay * h + torch.einsum("bh,bn,bhp->bhnp", dt[:, t], b[:, t, 0], x[:, t])
    return h


def test_chunk_sizes_agree():
    args, weights = arguments(2, 100, 2, 8, 1, 8)
    results = [value_and_gradients(ssd_scan, args, weights, chunk) for chunk in (16, 32, 64, 128)]
    for y, gradients in results[1:]:
        torch.testing.assert_close(y, results[0][0], rtol=1e-10, atol=1e-10)
        for ours, first in zip(gradients, results[0][1], strict=True):
            torch.testing.assert_close(ours, first, rtol=1e-9, atol=1e-9)


def test_only_inputs_and_states_are_kept_for_the_backward_pass():
    """No matrix of chunk by chunk per head outlives the forward pass: half of what is usual, and less."""
    args, _ = arguments(1, 256, 4, 16, 1, 8, dtype=torch.float32)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        ssd_scan(*args, 64)
    per_head_pairs = 256 * 64 * 4
    assert {tuple(t.shape) for t in kept} >= {tuple(t.shape) for t in args}
    assert all(t.numel() < per_head_pairs for t in kept)
