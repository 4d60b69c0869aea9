# `make sweep` sets up and runs the quickstart; `make test` sets up and passes the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: sweep test test-slow test-browser test-cluster test-versions mutants check audit format clean

sweep: $(VENV)/.run
	$(BIN)/sweeps run quickstart

test: $(VENV)/.test
	$(BIN)/python -m pytest

test-slow: $(VENV)/.test
	$(BIN)/python -m pytest -m slow

# Needs Chromium or Chrome on the PATH (on Debian: apt-get install chromium), and says so where there is none.
test-browser: $(VENV)/.test
	$(BIN)/python -m pytest -m browser -n 0

test-cluster: $(VENV)/.test
	$(BIN)/python tests/cluster/run.py

# A hundred mutants of what must not go wrong, against the tests nearest to each: some half hour (tests/mutation/).
mutants: $(VENV)/.test $(VENV)/.mutants
	$(VENV)/mutants/bin/python tests/mutation/run.py --python $(BIN)/python

# The lowest, the pinned and the newest packages, on every Python that is found; asks the package index.
test-versions: $(VENV)/.test
	$(PIP) uv
	$(BIN)/python tests/versions/run.py $(SETS)

check: $(VENV)/.check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Known weaknesses of the pinned versions; asks the package index.
audit: $(VENV)/.run
	$(PIP) pip-audit
	$(BIN)/pip-audit --requirement constraints.txt --no-deps --disable-pip

format: $(VENV)/.check
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "installing (a few minutes the first time)"
	$(PIP) -e . -c constraints.txt
	@touch $@

$(VENV)/.test: $(VENV)/.run
	$(PIP) -e ".[test]" -c constraints.txt
	@touch $@

$(VENV)/.check: $(VENV)/.test
	$(PIP) -e ".[test,check]" -c constraints.txt
	@touch $@

# Cosmic Ray has an environment of its own, since nothing else needs what it needs; its version decides what is drawn.
$(VENV)/.mutants: $(VENV)/bin/python Makefile
	$(PYTHON) -m venv $(VENV)/mutants
	$(VENV)/mutants/bin/python -m pip install --quiet --disable-pip-version-check cosmic-ray==8.7.0 parso==0.8.7
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info
