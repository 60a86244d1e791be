"""What a model refuses before it computes anything: a signal of another shape, dtype or with values not finite."""

import torch
from torch import Tensor

from brainbrr.errors import ModelInputError
from brainbrr.models.encoder import STRIDE

WHERE = "signal"


def admit(signal: Tensor, channels: int, dtype: torch.dtype) -> Tensor:
    """Return ``signal`` (B, N, T) as it is, or refuse it.

    Raises:
        ModelInputError: the first thing wrong with it, in one sentence.
    """
    if signal.ndim != 3 or signal.shape[1] != channels or signal.shape[0] == 0:
        raise ModelInputError(
            "wrong shape", where=WHERE, got=tuple(signal.shape), expected=f"(batch, {channels}, samples)"
        )
    if signal.shape[2] == 0 or signal.shape[2] % STRIDE:
        raise ModelInputError(
            "wrong length", where=WHERE, got=f"{signal.shape[2]} samples", expected=f"a multiple of {STRIDE}"
        )
    if signal.dtype != dtype:
        raise ModelInputError("wrong dtype", where=WHERE, got=signal.dtype, expected=f"{dtype}, as the weights")
    finite: Tensor = _finite(signal)
    return finite


# As an operator of its own the check is one opaque node for compilers and fake tensors, which cannot branch on values.
# An operator may not return its input, hence the copy: 1 MB per window.
@torch.library.custom_op("brainbrr::finite", mutates_args=())
def _finite(signal: Tensor) -> Tensor:
    # On CUDA the answer is waited for here, once per batch.
    if not torch.isfinite(signal).all():
        wrong = torch.isfinite(signal).logical_not_().nonzero()
        window, channel, sample = wrong[0].tolist()
        raise ModelInputError(
            "values that are not finite",
            where=WHERE,
            got=f"{len(wrong)} of {signal.numel()}, the first in window {window}, channel {channel}, sample {sample}",
        )
    return signal.clone()


@_finite.register_fake
def _(signal: Tensor) -> Tensor:
    return torch.empty_like(signal)


_finite.register_autograd(lambda _, gradient: gradient)
