# make run     Orgdesk and a practice org, on this machine
# make check   lint, types and tests: what has to hold before a change goes in
# make fuzz    the tests that make up their input, at length and at random
# make soak    refreshes beside faults for a minute, and workers that are killed
# make bench   how fast pages and clicks are, as ratios
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOAK := --seconds 60
ROUNDS := 50
PIP := $(BIN)/pip install --quiet --disable-pip-version-check

.PHONY: run check lint types test fuzz soak bench screenshots
.DEFAULT_GOAL := run

run: $(VENV)/run
	@$(BIN)/python run.py

check: lint types test

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/dev
	$(BIN)/mypy

test: $(VENV)/dev
	$(BIN)/python -m tests.browser.chromium
	$(BIN)/python -m pytest -n 3 --dist loadgroup --no-loadscope-reorder

fuzz: $(VENV)/dev
	HYPOTHESIS_PROFILE=fuzz $(BIN)/python -m pytest tests --ignore tests/browser

soak: $(VENV)/dev
	$(BIN)/python -m tests.soak $(SOAK)
	ORGDESK_TEST_ROUNDS=$(ROUNDS) $(BIN)/python -m pytest tests/test_processes.py \
	  tests/test_processes_postgresql.py -k killed

bench: $(VENV)/dev
	$(BIN)/python -m bench

screenshots: $(VENV)/dev
	$(BIN)/python -m tests.browser.screenshots

$(VENV)/run: requirements.txt practice_org/requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Orgdesk needs Python 3.11 or newer: make PYTHON=python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the requirements into $(VENV) ..."
	@$(PIP) -r requirements.txt -r practice_org/requirements.txt
	@touch $@

$(VENV)/dev: $(VENV)/run requirements-dev.txt
	@echo "Installing the development requirements into $(VENV) ..."
	@$(PIP) -r requirements-dev.txt
	@touch $@
