"""Scripts of other fields, each as its author would write it, run as they are in the run's folder."""

import os
import runpy
import sys
from pathlib import Path

SCRIPTS = Path(__file__).parent.parent / "scripts" / "odd_domains"


def _script(name):
    def train(run):
        before = Path.cwd(), sys.argv
        os.chdir(run.workdir)
        sys.argv = [f"{name}.py"]
        try:
            runpy.run_path(str(SCRIPTS / f"{name}.py"), run_name="__main__")
        finally:
            os.chdir(before[0])
            sys.argv = before[1]

    return train


globals().update({path.stem: _script(path.stem) for path in SCRIPTS.glob("*.py")})
