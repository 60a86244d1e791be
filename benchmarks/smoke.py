"""How long ``pytest --smoke`` takes for every encoder, as a user runs it, beside its unwatched trainers.

python benchmarks/smoke.py --runs 3
python benchmarks/smoke.py --runs 1 -- --smoke-config configs/local/train.yaml --smoke-steps 3
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CONFIGS = Path(__file__).resolve().parent.parent / "configs" / "local"


def timed(command: list[str], folder: str) -> tuple[float, str]:
    start = time.perf_counter()
    environment = {**os.environ, "BGB_SMOKE_TEST": "1", "BGB_LIMIT_FILES": "3"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return seconds, done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("pytest", nargs="*", help="arguments for pytest, after --")
    options = parser.parse_args()
    watched, bare = [], []
    smoke = [sys.executable, "-m", "pytest", "--smoke", "-q", "-p", "no:cacheprovider", *options.pytest]
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(options.runs + 1):  # the first turn writes the demo corpus and the caches
            seconds, output = timed(smoke, folder)
            alone = 0.0
            if not options.pytest:
                for config in ("smoke_tcn", "smoke_unet"):
                    train = [sys.executable, "-m", "brainbrr", "train", str(CONFIGS / f"{config}.yaml"), "--fresh"]
                    alone += timed([*train, "--max-steps", "6", "--output-dir", f"{folder}/{config}"], folder)[0]
            if turn:
                watched.append(seconds)
                bare.append(alone)
    print(output)
    print(f"pytest --smoke: median {statistics.median(watched):.1f} s of {options.runs} runs")
    if not options.pytest:
        ratio = statistics.median(w / b for w, b in zip(watched, bare, strict=True))
        print(f"the same trainers unwatched, one run each: median {statistics.median(bare):.1f} s; ratio {ratio:.1f}")


if __name__ == "__main__":
    main()
