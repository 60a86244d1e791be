"""Measure what watching costs: training steps with and without observers, taken in turns in one process.

    python benchmarks/watching.py [--width smoke|production] [--encoder tcn|unet] [--rounds 3] [--batch 2]

Times are processor seconds of all threads, which a busy machine changes less than the clock's; set
OMP_WAIT_POLICY=PASSIVE, so that waiting threads do not count. Per round: steps without observers, then the observers
are put in place and a whole smoke run's worth of steps is taken. ``steady`` compares the median step after the first
two (whose inner statistics and descriptions cost more); ``run`` compares all of them. The loop is a trainer's:
zero_grad, forward, loss, backward, clipping, AdamW, schedule.
"""

import argparse
import gc
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from brainbrr.config.loading import load_config
from brainbrr.models.detector import build_detector
from pytest_brainbrr.observers import install

CONFIGS = Path(__file__).parent.parent / "configs" / "local"
WINDOW = (19, 15_360)


def stepper(config: str, encoder: str, batch: int) -> Callable[[], float]:
    """Return a function that takes one training step and says how long it took."""
    overrides = [] if config.startswith("smoke") else [f"model.encoder={{name: {encoder}}}"]
    model = build_detector(load_config(CONFIGS / config, overrides), seizure_share=0.1).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10_000)
    signal, label = torch.randn(batch, *WINDOW), (torch.rand(batch, WINDOW[1]) > 0.9).float()

    def step() -> float:
        began = time.process_time()
        optimizer.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(model(signal), label)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        loss.item()
        return time.process_time() - began

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", choices=("smoke", "production"), default="smoke")
    parser.add_argument("--encoder", choices=("tcn", "unet"), default="tcn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--batch", type=int, default=2)
    given = parser.parse_args()
    config = f"smoke_{given.encoder}.yaml" if given.width == "smoke" else "train.yaml"
    step = stepper(config, given.encoder, given.batch)
    step()
    plain, early, steady = [], [], []
    gc.freeze()
    for _ in range(given.rounds):
        plain += [step() for _ in range(given.steps)]
        with tempfile.TemporaryDirectory() as folder:
            watch = install(Path(folder) / "trace", Path(folder))
            taken = [step() for _ in range(given.steps)]
            watch.close()
        early += taken[:2]
        steady += taken[2:]
    bare, watched = statistics.median(plain), statistics.median(steady)
    run = statistics.mean(early + steady) / statistics.mean(plain)
    print(f"{given.encoder}, {given.width} width, batch {given.batch}, {torch.get_num_threads()} threads")
    print(f"  step without observers  {bare:8.3f} s (median of {len(plain)}, {min(plain):.3f} to {max(plain):.3f})")
    print(f"  steady, with observers  {watched:8.3f} s (median of {len(steady)}): {100 * (watched / bare - 1):+.1f} %")
    print(f"  run of {given.steps}, with observers  {'':8} {100 * (run - 1):+.1f} %")


if __name__ == "__main__":
    main()
