"""What stands beside the scan in Mamba-2, each with a backward pass written by hand: convolution and gated norm.

Automatic differentiation keeps every intermediate and walks over it again; these keep little more than their inputs
and make the rest again, which on a CPU is faster as well as smaller. All work on channels-last tensors (B, L, C).
"""

import contextlib
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

AnyContext = contextlib.AbstractContextManager[Any]

silu_backward = torch.ops.aten.silu_backward


def no_autocast(device: torch.device) -> AnyContext:
    """Return a context in which products keep the dtype of their arguments, on devices without autocast as well."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return contextlib.nullcontext()


def conv_silu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolve each channel of (B, L, C) with its row of ``weight`` (C, K), add ``bias``, apply SiLU.

    Step t sees steps t-K+1 to t.
    """
    out: Tensor = _ConvSilu.apply(x, weight, bias)  # type: ignore[no-untyped-call]  # torch's stub
    return out


def gated_rms_norm(y: Tensor, z: Tensor, weight: Tensor, groups: int, eps: float) -> Tensor:
    """Bring ``y * silu(z)``, both (B, L, E), to unit root mean square in each group of channels, and scale it."""
    out: Tensor = _GatedRMSNorm.apply(y, z, weight, groups, eps)  # type: ignore[no-untyped-call]  # torch's stub
    return out


def _depthwise(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve (B, L, C), zeros before its start, with (C, K); the result has K-1 more steps at the end."""
    # As an image of height 1 in channels-last format the tensor is taken as it is; a one-dimensional convolution
    # would be transposed there and back.
    channels, taps = weight.shape
    image = x.mT.unsqueeze(2)
    return functional.conv2d(image, weight.view(channels, 1, 1, taps), bias, padding=(0, taps - 1), groups=channels)[
        :, :, 0
    ].mT


class _ConvSilu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        convolved = _depthwise(x, weight, bias)[:, : x.shape[1]]
        ctx.save_for_backward(x, weight, convolved)
        return functional.silu(convolved)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight, convolved = ctx.saved_tensors
        length, last = x.shape[1], weight.shape[1] - 1
        with no_autocast(dy.device):
            dv = silu_backward(dy, convolved)
            # Step s went to steps s to s + K - 1: the same convolution with the taps reversed, read K - 1 steps later.
            dx = _depthwise(dv, weight.flip(1), None)[:, last:]
            taps = [(dv[:, last - tap :] * x[:, : length - last + tap]).sum((0, 1)) for tap in range(last + 1)]
            return dx, torch.stack(taps, dim=1), dv.sum((0, 1))


class _GatedRMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, z: Tensor, weight: Tensor, groups: int, eps: float) -> Tensor:
        gated = functional.silu(z).mul_(y)
        grouped = gated.view(*y.shape[:-1], groups, -1)
        size = grouped.shape[-1]
        scale = torch.linalg.vector_norm(grouped, dim=-1, keepdim=True).square_().div_(size).add_(eps).rsqrt_()
        ctx.save_for_backward(y, z, weight, scale)
        ctx.groups = groups
        grouped.mul_(scale)
        return gated.mul_(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        y, z, weight, scale = ctx.saved_tensors
        with no_autocast(dout.device):
            shape = (-1, ctx.groups, weight.numel() // ctx.groups)
            opened = functional.silu(z)
            gated = (opened * y).view(shape)
            scale = scale.view(-1, ctx.groups, 1)
            product = dout.reshape(shape) * gated
            weight_g = weight.view(shape[1:])
            along = (product * weight_g).sum(-1, keepdim=True)
            dweight = (product.mul_(scale)).sum(0).view_as(weight)
            dgated = torch.mul(dout.reshape(shape), weight_g, out=product).mul_(scale)
            dgated.addcmul_(gated, along.mul_(scale**3).div_(shape[-1]), value=-1)
            dgated = dgated.view(y.shape)
            dz = silu_backward(dgated * y, z)
            return opened.mul_(dgated), dz, dweight, None, None
