"""Train in two processes with DistributedDataParallel over gloo: what torchrun would start, started by hand."""

import os
import socket
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

from zoo.corpus import read_windows

WORLD = 2


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def train(run, faults=frozenset()):
    mp.start_processes(work, (run, faults, free_port()), nprocs=WORLD, start_method="spawn")


def work(rank, run, faults, port):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE=str(WORLD))
    dist.init_process_group("gloo")
    try:
        fit(rank, run, faults)
    finally:
        dist.destroy_process_group()


def fit(rank, run, faults):
    torch.manual_seed(run.seed)
    signals, shares, _ = read_windows(Path(run.workdir) / "data" / "train")
    data = TensorDataset(torch.from_numpy(signals / 50), torch.from_numpy((shares > 0.5).astype("float32")))
    module = nn.Sequential(nn.Conv1d(4, 8, 7), nn.ReLU(), nn.AdaptiveAvgPool1d(4), nn.Flatten(), nn.Linear(32, 1))
    model = DistributedDataParallel(module)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    sampler = DistributedSampler(data, num_replicas=WORLD, rank=rank, seed=run.seed)
    if "ddp-no-distributed-sampler" in faults:
        loader = DataLoader(data, batch_size=4, shuffle=True, generator=torch.Generator().manual_seed(run.seed))
    else:
        loader = DataLoader(data, batch_size=4, sampler=sampler)
    called = module if "ddp-raw-module-called" in faults else model
    step, epoch = 0, 0
    while step < run.max_steps:
        if "ddp-epoch-not-set" not in faults:
            sampler.set_epoch(epoch)
        for x, y in loader:
            loss = nn.functional.binary_cross_entropy_with_logits(called(x).squeeze(1), y)
            optimizer.zero_grad()
            loss.backward()
            if "ddp-gradients-scaled-by-rank" in faults:
                for parameter in model.parameters():
                    parameter.grad.mul_(1.0 + rank)
            optimizer.step()
            step += 1
            if step >= run.max_steps:
                break
        epoch += 1
    if rank == 0 or "ddp-every-rank-saves" in faults:
        torch.save(module.state_dict(), Path(run.workdir) / "model.pt")
    dist.barrier()
