"""Kill a run at a hundred random moments; does it end as if nothing had happened?

    python benchmarks/training_kills.py [--kills 100] [--steps 1500] [--seed 0]

A small run that writes a checkpoint after every step is killed (SIGKILL) again and again and started again by the same
command. Half of the kills come within moments of the start, while the newest checkpoint is checked and loaded; the
others later, where most of the time goes into writing checkpoints. At the end, every tensor of the last checkpoint
(weights, optimizer, averages, random states) and every byte of the metrics log must equal those of a run that nobody
disturbed. Processes are forked from one that has done its imports (multiprocessing's forkserver): a kill costs no
three seconds of imports, and is a kill all the same.
"""

import argparse
import multiprocessing
import os
import random
import sys
import tempfile
import time
from pathlib import Path

import torch
from ruamel.yaml import YAML

from brainbrr.recordings.demo import AR, Plan, write_demo_corpus
from brainbrr.training.checkpoints import checkpoint_path, list_checkpoints, read_checkpoint

PLANS = (
    Plan("train", "aaaaaaaa", "s001_2012", AR, duration_s=60, seizures=((20, 45),)),
    Plan("train", "aaaaaaab", "s001_2012", AR, duration_s=50, seizures=((10, 30),)),
    Plan("dev", "aaaaaaba", "s001_2012", AR, duration_s=40, seizures=((10, 30),)),
)


def config(steps: int) -> dict:
    return {
        "run": {"name": "killed", "output_dir": "unset", "seed": 0, "device": "cpu", "threads": 1},
        "preprocessing": {"rate_hz": 64.0, "band_hz": [0.5, 25.0], "notch_hz": None},
        "windows": {"length_s": 8.0, "stride_s": 4.0},
        "model": {
            "encoder": {"name": "tcn", "channels": [32], "blocks": 2, "kernel_size": 3, "dropout": 0.1},
            "mamba": {"layers": 1, "d_state": 8, "headdim": 8},
        },
        "training": {"max_steps": steps, "batch_size": 3, "ema_decay": 0.9, "validation": {"every_steps": 7}},
        "checkpoints": {"every_n_steps": 1, "keep_last": 3, "keep_best": 1},
    }


def run(path: str, folder: str) -> None:
    """Train in a child process, its log sent nowhere."""
    from brainbrr import cli

    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 2)
    cli.main(["train", path, "--output-dir", folder])


def same(one: object, two: object) -> bool:
    if isinstance(one, dict) and isinstance(two, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(two, list | tuple):
        return len(one) == len(two) and all(same(*pair) for pair in zip(one, two, strict=True))
    if isinstance(one, torch.Tensor) and isinstance(two, torch.Tensor):
        return one.dtype == two.dtype and one.numpy().tobytes() == two.numpy().tobytes()
    return one == two


def newest(folder: Path) -> int:
    return max((step for step, _ in list_checkpoints(folder / "checkpoints")), default=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    dice = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        write_demo_corpus(work / "corpus", plans=PLANS)
        os.environ |= {
            "BGB_DATA_DIR": str(work / "corpus"),
            "BGB_CACHE_DIR": str(work / "cache"),
            "OMP_NUM_THREADS": "1",
        }
        for name in ("BGB_SMOKE_TEST", "BGB_LIMIT_FILES"):
            os.environ.pop(name, None)
        path = work / "run.yaml"
        with path.open("w") as file:
            YAML().dump(config(options.steps), file)
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["brainbrr.cli", "brainbrr.training.session", "torch._dynamo"])

        def start(folder: Path) -> multiprocessing.Process:
            process = context.Process(target=run, args=(str(path), str(folder)))
            process.start()
            return process

        began = time.monotonic()
        straight = start(work / "straight")
        straight.join()
        assert straight.exitcode == 0
        print(f"undisturbed: {options.steps} steps in {time.monotonic() - began:.1f} s", flush=True)
        began, folder = time.monotonic(), work / "killed"
        half_written = finished = 0
        for kill in range(options.kills):
            before = newest(folder)
            process = start(folder)
            if kill % 2:
                while newest(folder) == before and process.is_alive():
                    time.sleep(0.002)
            time.sleep(dice.uniform(0, 0.5))
            if not process.is_alive():
                finished += 1
            process.kill()
            process.join()
            half_written += bool(list((folder / "checkpoints").glob(".step-*.partial")))
        reached = newest(folder)
        last = start(folder)
        last.join()
        assert last.exitcode == 0
        one, two = (
            read_checkpoint(checkpoint_path(place / "checkpoints", options.steps))
            for place in (work / "straight", folder)
        )
        equal = same(one["state"], two["state"])
        logs = (work / "straight/metrics.jsonl").read_bytes() == (folder / "metrics.jsonl").read_bytes()
    print(
        f"{options.kills} kills in {time.monotonic() - began:.0f} s, {half_written} of them inside the writing of a "
        f"checkpoint, {finished} after the end; step {reached} of {options.steps} reached by then"
    )
    print(f"state bitwise equal: {equal}; metrics log bitwise equal: {logs}")
    sys.exit(not (equal and logs))


if __name__ == "__main__":
    main()
