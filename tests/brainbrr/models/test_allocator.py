"""Freed memory stays with the process: seen in processes of their own, since nothing undoes it."""

import subprocess
import sys

import pytest

SCRIPT = """
import sys
from pathlib import Path
import torch
if "keep" in sys.argv:
    from brainbrr.models.allocator import keep_freed_memory
    assert keep_freed_memory()
def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6
before = resident_mb()
large = torch.ones(50_000_000)
assert resident_mb() > before + 150
del large
print(resident_mb() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_freed_memory_is_kept():
    def growth_mb(*arguments):
        done = subprocess.run([sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return float(done.stdout)

    assert growth_mb() < 50
    assert growth_mb("keep") > 150
