"""Index and verdict of a large corpus: headers and label files of ``--recordings`` recordings, cold and warm.

    python benchmarks/data_index.py --recordings 5000

Cold is a first run without a remembered index (the files are in the page cache, where writing them left them); warm
is a new process that finds it. The EDF files are sparse: their headers and sizes are real. Memory is the growth of
the resident set.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MEASURE = """
import json, resource, sys, time
import torch
from brainbrr.config import config_from_mapping
from brainbrr.errors import NoSeizureError
from brainbrr.windows import load_split
from brainbrr.windows.sampler import _verdict
config = config_from_mapping({"run": {"name": "b", "output_dir": "u"}, "data": {"directory": sys.argv[1]}}, "b")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start, cpu = time.perf_counter(), time.process_time()
windows = load_split(config, "train")
_verdict(windows, require_seizures=True)
spent, cpu = time.perf_counter() - start, time.process_time() - cpu
grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
print(json.dumps({"s": round(spent, 3), "cpu_s": round(cpu, 3), "windows": len(windows),
                  "seizure_windows": windows.n_seizure_windows, "recordings": windows.n_used,
                  "grown_MB": round(grown, 1)}))
"""


def header(labels: list[str], rate: int, seconds: int) -> bytes:
    """Return an EDF header."""
    n = len(labels)

    def column(width: int, *values: str) -> bytes:
        return b"".join(value.ljust(width).encode() for value in (values * n if len(values) == 1 else values))

    fixed = (
        b"0".ljust(8) + b" " * 160 + b"01.01.1501.00.00" + str(256 * (n + 1)).ljust(8).encode() + b" " * 44
        + str(seconds).ljust(8).encode() + b"1".ljust(8) + str(n).ljust(4).encode()
    )  # fmt: skip
    return (
        fixed + column(16, *labels) + column(80, "") + column(8, "uV") + column(8, "-3276.7") + column(8, "3276.7")
        + column(8, "-32767") + column(8, "32767") + column(80, "") + column(8, str(rate)) + column(32, "")
    )  # fmt: skip


def write(root: Path, n: int) -> None:
    """Write the corpus: eight recordings of each patient, every fifth recording with a seizure."""
    from brainbrr.montage import CHANNELS

    labels = [f"EEG {name.upper()}-REF" for name in CHANNELS] + ["EEG EKG1-REF", "EEG A1-REF", "EEG A2-REF", "IBI"]
    for number in range(n):
        patient = "".join(chr(97 + number // 8 // 26**power % 26) for power in range(7, -1, -1))
        rate, seconds = (250, 256, 400, 512)[number % 4], 300 + number % 900
        stem = f"{patient}_s001_t{number % 8:03d}"
        folder = root / "edf" / "train" / patient / "s001_2015" / "01_tcp_ar"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{stem}.edf").open("wb") as stream:
            stream.write(header(labels, rate, seconds))
            stream.truncate(stream.tell() + 2 * seconds * rate * len(labels))
        row = "TERM,100.0000,160.0000,seiz" if number % 5 == 4 else f"TERM,0.0000,{seconds:.4f},bckg"
        (folder / f"{stem}.csv_bi").write_text(
            f"# version = csv_v1.0.0\n# bname = {stem}\n# duration = {seconds:.4f} secs\n# montage_file = x\n#\n"
            f"channel,start_time,stop_time,label,confidence\n{row},1.0000\n"
        )
    for path in root.rglob("*"):
        os.utime(path, (1e9, 1e9))


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recordings", type=int, default=5000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "corpus", options.recordings)
        environment = os.environ | {"BGB_CACHE_DIR": f"{folder}/cache", "OMP_NUM_THREADS": "1"}
        runs = {}
        for name in ("cold", "warm", "warm again"):
            command = [sys.executable, "-c", MEASURE, f"{folder}/corpus"]
            start = time.perf_counter()
            out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
            runs[name] = json.loads(out) | {"process_s": round(time.perf_counter() - start, 2)}
    print(json.dumps(runs, indent=1))


if __name__ == "__main__":
    main()
