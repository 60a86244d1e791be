"""What the training loop costs beside the model: bookkeeping, checkpoints, resuming.

    python benchmarks/training_overhead.py [--width smoke|production] [--encoder tcn|unet] [--batch 2] [--blocks 8]

Three measurements, on the real configuration over the embedded corpus:

- the loop (finiteness checks, clipping, metrics log, progress, signals) against a bare loop of the same loading,
  forward, backward and optimizer step, in alternating blocks in one process, so that drift of the machine hits both;
  processor time beside wall time, because other work on the machine disturbs it less;
- how long writing a checkpoint blocks training (serialising, checksums, fsync);
- how long it takes from a checkpoint on disk to a state ready for the first step (checksums, loading, building).
"""

import argparse
import contextlib
import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from brainbrr.config import load_config
from brainbrr.training import session
from brainbrr.training.checkpoints import checkpoint_path, read_checkpoint
from brainbrr.training.console import Lines
from brainbrr.training.loop import Loop
from brainbrr.training.output import MetricsLog, OutputFolder
from brainbrr.training.provenance import header
from brainbrr.training.signals import StopRequest
from brainbrr.training.tracking import Trackers

CONFIGS = Path(__file__).resolve().parent.parent / "configs/local"


def settings(width: str, encoder: str, batch: int) -> list[str]:
    common = [
        "data.directory=demo", f"training.batch_size={batch}", "training.validation.split=none", "training.workers=0",
        "training.max_steps=100000", "training.ema_decay=null", "training.log_every_steps=10",
        "checkpoints={every_n_steps: null, every_minutes: null}",
    ]  # fmt: skip
    if width == "production":
        common.append(f"model.encoder={{name: {encoder}, channels: [64, 128, 256, 512]}}")
    return common


def bare_step(run: session._Run, group) -> None:
    state, batch = run.state, group.batches[0]
    state.optimizer.zero_grad(set_to_none=True)
    loss = run.loss(state.model(batch["signal"]), batch["label"], batch["valid"]) / batch["valid"].sum()
    loss.backward()
    state.optimizer.step()
    state.schedule.step()


def measure_loop(loop: Loop, run: session._Run, blocks: int, steps: int) -> str:
    groups = loop._groups()

    def bare() -> None:
        bare_step(run, next(groups))

    def whole() -> None:
        assert loop._reason_to_end() is None
        loop._train_step(next(groups))
        loop._validate_if_due()
        assert not loop._checkpoint_is_due()

    def measure(step: Callable[[], None]) -> tuple[float, float]:
        wall, processor = time.perf_counter(), time.process_time()
        for _ in range(steps):
            step()
        return (time.perf_counter() - wall) / steps, (time.process_time() - processor) / steps

    bare(), whole()
    pairs = []
    for block in range(blocks):
        order = (bare, whole) if block % 2 else (whole, bare)
        times = {step: measure(step) for step in order}
        pairs.append((times[bare], times[whole]))
    said = []
    for i, clock in enumerate(("wall", "processor")):
        ratios = [with_it[i] / without[i] for without, with_it in pairs]
        low, middle, high = statistics.quantiles(ratios, n=4)
        without, with_it = (statistics.median(pair[j][i] for pair in pairs) for j in (0, 1))
        said.append(
            f"{clock} time: bare step {without:.4f} s, with the loop {with_it:.4f} s; "
            f"ratio of neighbours {middle:.3f} (quartiles {low:.3f}, {high:.3f})"
        )
    return "\n  ".join(said)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", choices=["smoke", "production"], default="smoke")
    parser.add_argument("--encoder", choices=["tcn", "unet"], default="tcn")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--blocks", type=int, default=8)
    parser.add_argument("--steps", type=int, default=4, help="steps in a block")
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    name = f"smoke_{options.encoder}" if options.width == "smoke" else "train"
    config = load_config(CONFIGS / f"{name}.yaml", settings(options.width, options.encoder, options.batch))
    device = torch.device("cpu")
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        folder = OutputFolder(Path(temporary))
        folder.prepare(fresh=False, step=0)
        run = session._prepare(config, device)
        metrics = MetricsLog(folder.metrics, smoke=False, start=0)
        stack.callback(metrics.close)
        stop = StopRequest()
        stack.enter_context(stop.listening())
        write = session._writer_of(config, folder, header(config, device, smoke=False, facts=run.facts()))
        loop = Loop(
            config=config, state=run.state, forward=run.state.model, loss=run.loss, windows=run.windows,
            validation=None, device=device, write_checkpoint=write, metrics=metrics, trackers=Trackers([]),
            console=Lines(10), stop=stop,
        )  # fmt: skip
        loop.console.start(step=0, n_steps=100_000)
        print(f"{options.width} width, {options.encoder}, batch {options.batch}:", flush=True)
        print(" ", measure_loop(loop, run, options.blocks, options.steps), flush=True)
        times = []
        for _ in range(3):
            began = time.perf_counter()
            loop._checkpoint()
            times.append(time.perf_counter() - began)
        path = checkpoint_path(folder.checkpoints, run.state.progress.step)
        print(f"  checkpoint: {path.stat().st_size / 1e6:.1f} MB, blocks {min(times):.2f} to {max(times):.2f} s")
        began = time.perf_counter()
        content = read_checkpoint(path)
        read = time.perf_counter() - began
        session._prepare(config, device).state.load_state_dict(content["state"])
        print(f"  resume: {read:.2f} s to check and read, {time.perf_counter() - began:.2f} s until the state is ready")


if __name__ == "__main__":
    main()
