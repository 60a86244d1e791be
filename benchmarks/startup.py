"""What the plugin costs a project that does not use it: ``pytest --collect-only`` in an empty folder, with and without.

The two commands take turns; the figure is the median of the paired differences of processor time, which other load
disturbs less than the clock.

    python benchmarks/startup.py --pairs 30
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile


def seconds(command: list[str], folder: str) -> float:
    before = os.times()
    subprocess.run(command, cwd=folder, capture_output=True, check=False)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=30)
    pairs = parser.parse_args().pairs
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    without = [*command, "-p", "no:brainbrr"]
    with tempfile.TemporaryDirectory() as folder:
        seconds(command, folder), seconds(without, folder)
        times = [(seconds(command, folder), seconds(without, folder)) for _ in range(pairs)]
    extra = [1000 * (loaded - bare) for loaded, bare in times]
    bare = 1000 * statistics.median(bare for _, bare in times)
    quartiles = statistics.quantiles(extra, n=4)
    print(f"without the plugin: median {bare:.0f} ms")
    print(f"with it: {quartiles[1]:+.1f} ms (quartiles {quartiles[0]:+.1f} to {quartiles[2]:+.1f}, {pairs} pairs)")


if __name__ == "__main__":
    main()
