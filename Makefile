# Each target prints what it does. `make help` lists them.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
GOLDEN_DIR ?= ../shared/golden

.PHONY: help demo test test-slow lint golden tipc clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/run.stamp: requirements.txt
	@echo "== creating $(VENV) and installing the pinned requirements"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/dev.stamp: $(VENV)/run.stamp requirements-dev.txt
	@echo "== installing what tests and linters need"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

demo: $(VENV)/run.stamp  ## train, score, export and infer on the embedded data; output/demo/report.html
	@echo "== the demo: from an empty folder to a proven deployment"
	@$(BIN)/python -m paddleseg_ext demo --save_dir output/demo

test: $(VENV)/dev.stamp  ## the fast tests (at most 15 minutes on 2 cores)
	@echo "== the fast tests"
	@$(BIN)/python -m pytest -m "not slow and not gpu"

test-slow: $(VENV)/dev.stamp  ## the other tests: kill loops, whole suites (at most 75 minutes)
	@echo "== the slow tests"
	@$(BIN)/python -m pytest -m "slow and not gpu"

lint: $(VENV)/dev.stamp  ## ruff, mypy, import-linter, shellcheck, yamllint
	@echo "== ruff"; $(BIN)/ruff format --check . && $(BIN)/ruff check .
	@echo "== mypy"; $(BIN)/mypy
	@echo "== import-linter"; $(BIN)/lint-imports
	@echo "== shellcheck"; git ls-files '*.sh' '.ci/run' | xargs $(BIN)/shellcheck
	@echo "== yamllint"; $(BIN)/yamllint --strict .

golden: $(VENV)/dev.stamp  ## compare with the original systems' numbers: GOLDEN_DIR=DIR
	@echo "== the golden cases under $(GOLDEN_DIR)"
	@$(BIN)/python tests/parity/run_golden.py $(GOLDEN_DIR)

tipc: $(VENV)/dev.stamp  ## every TIPC chain of every network, and a table of what came of it
	@echo "== every TIPC chain of every network"
	@PATH="$(abspath $(BIN)):$$PATH" bash test_tipc/run_all.sh

clean:  ## delete the demo's output and the caches; runs of your own and $(VENV) stay
	@echo "== deleting output/demo, output/tour and caches"
	@rm -rf output/demo output/tour .pytest_cache .mypy_cache .ruff_cache .hypothesis
