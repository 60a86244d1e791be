"""Numbers and digests of tensors, taken at event time. No tensor is kept, no generator is touched.

A digest is the CRC-32 of the raw bytes: 7 GB/s where zlib uses the CPU's instructions, about 1 GB/s elsewhere, in order
(a sum or an exclusive or of words would miss permutations, and pairs that change alike). Tensors on a device are copied
to the host for it. Limits: meta, fake, sparse, quantized and distributed tensors have no digest.
"""

import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

MAX_ROWS = 4096
MAX_VALUES = 16
MAX_LEAVES = 256
SAMPLE = 1 << 16
_SHORT: dict[torch.dtype, str] = {}
FORM, SHAPELESS = 4096, 8
PIECES, SHORTEST, MAX_PIECED = 4, 16, 64
ROW_FACTS = ("row_means", "row_rms", "forms", "pieces", "flat")


def plain(tensor: Tensor) -> bool:
    """Return whether the tensor's bytes can be read as they are."""
    return (
        tensor.layout is torch.strided
        and not tensor.is_meta
        and not tensor.is_quantized
        and not tensor.is_nested
        and not isinstance(tensor, torch._subclasses.FakeTensor)
        and type(tensor).__torch_dispatch__ is Tensor.__torch_dispatch__
        and not torch._is_functional_tensor(tensor)
        and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    )


def raw(tensor: Tensor) -> Any:
    """Return the bytes of a tensor, on the host, in order, as a buffer."""
    value = tensor.detach()
    if value.is_complex():
        value = value.resolve_conj().resolve_neg()
    value = value.contiguous().cpu().reshape(-1)
    if value.numel() == 0:
        return b""
    return value.view(torch.uint8).numpy()


def digest(tensor: Tensor) -> str | None:
    """Return the digest of a tensor, or None where its bytes cannot be read."""
    if not plain(tensor):
        return None
    try:
        return f"{zlib.crc32(raw(tensor)):08x}"
    except (NotImplementedError, RuntimeError):
        return None  # a kind of tensor that hides its bytes in a way we do not know of


def shape_of(tensor: Tensor) -> list[int]:
    """Return the shape; -1 for the ragged dimensions of a nested tensor."""
    if not tensor.is_nested:
        return list(tensor.shape)
    if tensor.layout is torch.strided:
        return [tensor.size(0), *[-1] * (tensor.dim() - 1)]
    return [size if type(size) is int else -1 for size in tensor.shape]


def real(tensor: Tensor) -> Tensor:
    """Return complex numbers as pairs of real ones, and anything else as it is."""
    return torch.view_as_real(tensor.resolve_conj().resolve_neg()) if tensor.is_complex() else tensor


def row_digests(tensor: Tensor) -> list[str] | None:
    """Return the digest of every row of the first dimension."""
    if tensor.dim() == 0 or not 0 < tensor.shape[0] <= MAX_ROWS or not plain(tensor) or tensor.numel() == 0:
        return None
    rows = raw(tensor).reshape(tensor.shape[0], -1)
    return [f"{zlib.crc32(row):08x}" for row in rows]


def text_digest(*parts: Any) -> str:
    """Return the digest of some text or bytes."""
    value = 0
    for part in parts:
        value = zlib.crc32(part if isinstance(part, bytes) else str(part).encode(), value)
    return f"{value:08x}"


def short(dtype: torch.dtype) -> str:
    """Return ``float32`` for ``torch.float32``."""
    found = _SHORT.get(dtype)
    if found is None:
        found = _SHORT[dtype] = str(dtype).removeprefix("torch.")
    return found


def facts(tensor: Tensor, at: str = "", *, numbers: bool = True, rows: bool = True) -> dict[str, Any]:
    """Return the tensor facts of the vocabulary."""
    found: dict[str, Any] = {
        "at": at,
        "shape": shape_of(tensor),
        "dtype": short(tensor.dtype),
        "device": str(tensor.device),
        "requires_grad": tensor.requires_grad,
        "grad_fn": tensor.grad_fn is not None,
    }
    for name in ("digest", "samples", "finite", "min", "max", "mean", "rms", "constant", "values", *ROW_FACTS):
        found[name] = None
    if not plain(tensor):
        return found
    value = tensor.detach()
    found["digest"] = digest(value)
    found["samples"] = row_digests(value) if rows else None
    if numbers and value.numel():
        found.update(statistics(value, rows=rows))
    return found


def statistics(value: Tensor, *, rows: bool = True) -> dict[str, Any]:
    """Return finite, min, max, mean, rms, constant, values and row_means of a tensor that has elements."""
    value = real(value.detach())
    if value.dtype == torch.int64:
        value = value.double()
    elif value.dtype not in {torch.float32, torch.float64}:
        value = value.float()
    low, high = torch.aminmax(value)
    mean, norm = value.mean(), torch.linalg.vector_norm(value)
    low_, high_, mean_, norm_ = torch.stack([low, high, mean, norm]).tolist()
    # The minimum of anything with a NaN is NaN; the mean of finite numbers may overflow, so it is not asked.
    finite = all(-float("inf") < number < float("inf") for number in (low_, high_))
    return {
        "finite": finite,
        "min": low_,
        "max": high_,
        "mean": mean_,
        "rms": norm_ / value.numel() ** 0.5,
        "constant": low_ == high_,
        "values": _distinct(value, low_, high_) if finite else None,
        **(_rows(value) if rows and value.dim() > 0 and value.shape[0] <= MAX_LEAVES else {}),
    }


def _rows(value: Tensor) -> dict[str, Any]:
    """Return what is known of each row: mean, root mean square, form; and the channels that are flat in all rows."""
    if value.dim() == 1:
        return {"row_means": value.tolist()}
    flat = value.flatten(1)
    found: dict[str, Any] = {"row_means": flat.mean(1).tolist()}
    if value.is_floating_point() and flat.shape[1] > 1:
        found["row_rms"] = (torch.linalg.vector_norm(flat, dim=1) / flat.shape[1] ** 0.5).tolist()
        found["forms"] = _forms(value)
        length = value.shape[-1] // PIECES
        if value.shape[0] <= MAX_PIECED and length >= SHORTEST and not value.shape[-1] % PIECES:
            parts = [_forms(part) for part in value.split(length, dim=-1)]
            found["pieces"] = [list(row) for row in zip(*parts, strict=True)]
        if value.dim() > 2 and value.shape[1] <= MAX_LEAVES and value.shape[2] > 1:
            moving = (value != value[:, :, :1]).flatten(2).any(2).any(0)
            found["flat"] = [channel for channel, moves in enumerate(moving.tolist()) if not moves]
    return found


def _forms(value: Tensor) -> list[str | None]:
    """Return a digest of where each row rises along its last dimension: that of one signal at any scale and offset.

    Rows padded along the first of their own dimensions keep theirs.
    """
    start = value[..., : FORM + 1]
    rises = (start[..., 1:] > start[..., :-1]).flatten(1)[:, :FORM].cpu().numpy()
    if not rises.shape[1]:
        return [None] * len(value)
    counts, length = rises.sum(1).tolist(), rises.shape[1]
    return [
        text_digest(row.tobytes().strip(b"\0")) if SHAPELESS <= count <= length - SHAPELESS else None
        for row, count in zip(rises, counts, strict=True)
    ]


def _distinct(value: Tensor, low: float, high: float) -> list[float] | None:
    """Return the sorted distinct values if there are few; asks a part first, since sorting everything is slow."""
    flat = value.reshape(-1)
    if low == high:
        return [low]
    if flat.numel() > 4096:
        part = flat[:: flat.numel() // 2048 + 1]
        if part.unique().numel() > MAX_VALUES:
            return None
        if flat.numel() > 1 << 20:
            # Two values by far are the usual case (labels): count them instead of sorting.
            return [low, high] if bool(((flat == low) | (flat == high)).all()) else None
    values = flat.unique()
    return values.tolist() if values.numel() <= MAX_VALUES else None


def leaves(tree: Any, at: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield place and value of at most 256 leaves of nested mappings, sequences and dataclasses, 8 deep."""
    for count, found in enumerate(_leaves(tree, at, depth)):
        if count >= MAX_LEAVES:
            return
        yield found


def _leaves(tree: Any, at: str, depth: int) -> Iterator[tuple[str, Any]]:
    if isinstance(tree, Tensor) or depth > 8:
        yield at, tree
    elif isinstance(tree, Mapping):
        for name, value in tree.items():
            yield from _leaves(value, f"{at}.{name}" if at else str(name), depth + 1)
    elif isinstance(tree, list | tuple):
        names = getattr(tree, "_fields", range(len(tree)))
        for name, value in zip(names, tree, strict=False):
            yield from _leaves(value, f"{at}.{name}" if at else str(name), depth + 1)
    elif hasattr(type(tree), "__dataclass_fields__"):
        for name in type(tree).__dataclass_fields__:
            yield from _leaves(getattr(tree, name, None), f"{at}.{name}" if at else str(name), depth + 1)
    else:
        yield at, tree


def tensor_leaves(tree: Any) -> list[tuple[str, Tensor]]:
    """Return place and value of every tensor in nested arguments."""
    if isinstance(tree, Tensor):
        return [("", tree)]
    # Never `if not tree`: arrays and the trainer's own classes need not have a truth value.
    if tree is None or ((type(tree) is tuple or type(tree) is dict) and not tree):
        return []
    if type(tree) is tuple and len(tree) == 1 and isinstance(tree[0], Tensor):
        return [("0", tree[0])]
    return [(at, value) for at, value in leaves(tree) if isinstance(value, Tensor)]


def sampled(tensor: Tensor) -> Tensor:
    """Return a flat view of a regular subset of at most 65536 elements (all of them if there are no more)."""
    flat = tensor.detach().reshape(-1)
    return flat if flat.numel() <= SAMPLE else flat[:: flat.numel() // SAMPLE + 1]
