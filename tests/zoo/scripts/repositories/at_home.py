"""Lay a project into the present folder, as a checkout would be, and run its script there: at_home.py PROJECT SCRIPT ..."""

import os
import runpy
import shutil
import sys
from pathlib import Path

project, *command = sys.argv[1:]
place = os.getcwd()
if not (Path(place) / ".checkout").exists():
    source = Path(__file__).resolve().parent / project
    shutil.copytree(source, place, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    (Path(place) / ".checkout").touch()
sys.path[0] = place
module = command[0] == "-m"
sys.argv = command[module:]
if module:
    runpy.run_module(command[1], run_name="__main__", alter_sys=True)
else:
    runpy.run_path(os.path.join(place, command[0]), run_name="__main__")
