# Bootstraps tox in .venv and calls it; everything else stands in tox.ini.
PYTHON ?= python3
TOX := .venv/bin/tox

.PHONY: smoke test
smoke: $(TOX)
	$(TOX) run -e smoke

test: $(TOX)
	$(TOX) run

$(TOX): constraints.txt
	$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else f"Python 3.11 or newer is needed, this is {v[0]}.{v[1]}: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --constraint constraints.txt tox
	touch $@
