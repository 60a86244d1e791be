"""Several processes, as ``torchrun`` starts them: one group, gloo on the CPU and NCCL on CUDA.

Plain ``torch.distributed`` and DistributedDataParallel, and nothing on top: the model (30 M parameters) fits any
device whole, so sharding it (FSDP2) would buy nothing; Lightning Fabric and Accelerate would wrap the same DDP and cost
1.5 to 2.7 s of imports in a smoke run of 4 s. Without torchrun every function here is the identity.
"""

import contextlib
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import torch
from torch import distributed as dist


def launched() -> bool:
    """Say whether torchrun (or a launcher with its variables) started this process."""
    return os.environ.keys() >= {"RANK", "WORLD_SIZE", "MASTER_ADDR"}


@contextlib.contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the launcher's process group for the length of the block, or do nothing without a launcher."""
    if not launched() or dist.is_initialized():
        yield
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timedelta(minutes=30))
    try:
        yield
        # Together: a process that leaves while another still talks to it aborts the other.
        dist.barrier()
    finally:
        dist.destroy_process_group()


def rank() -> int:
    """Return this process's number, from 0."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def local_rank() -> int:
    """Return this process's number on its machine, from 0: the index of its CUDA device."""
    return int(os.environ.get("LOCAL_RANK", "0")) if launched() else 0


def is_writer() -> bool:
    """Say whether this process is the one that writes files and speaks, also before it joins the group."""
    if dist.is_available() and dist.is_initialized():
        return rank() == 0
    return not launched() or os.environ["RANK"] == "0"


def add_up(numbers: torch.Tensor) -> torch.Tensor:
    """Return the sum of ``numbers`` over all processes, in place."""
    if world_size() > 1:
        dist.all_reduce(numbers)
    return numbers


def gather(value: Any) -> list[Any]:
    """Return every process's ``value`` (picklable), in order of rank, to all."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def broadcast(value: Any) -> Any:
    """Return the writer's ``value`` (picklable) to all."""
    if world_size() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]
