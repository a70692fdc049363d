# Each target prints what it does. `make help` lists them.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
GOLDEN_DIR ?= ../shared/golden ../shared/golden_more
# What `make bench` measures; by default what `make demo` left. INT8 is calibrated on other images
# than those whose mIoU it must keep.
BENCH_CONFIG ?= configs/bisenetv1/bisenetv1_synthetic_demo.yml
BENCH_WEIGHTS ?= output/demo/train/best_model/model.pdparams
BENCH_DATA ?= output/demo/data/val.list
BENCH_CALIBRATION ?= output/demo/data/train.list
BENCH_DIR ?= output/bench
BENCH_FLAGS ?=

.PHONY: help demo test test-slow lint golden tipc bench cpp onnx-helper matrix docs clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# The pinned requirements include the setuptools that the editable install is built with. PaddleSeg
# comes without its own pins (docs/platform.md).
$(VENV)/run.stamp: requirements.txt requirements/paddleseg.txt pyproject.toml setup.py
	@echo "== creating $(VENV), installing the pinned requirements and this package, editable"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@# An older environment's OpenCV has the same files as this one's.
	@$(BIN)/python -m pip uninstall --quiet --yes opencv-python 2>/dev/null
	@$(INSTALL) -r requirements.txt
	@$(INSTALL) --no-deps -r requirements/paddleseg.txt
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/dev.stamp: $(VENV)/run.stamp $(wildcard requirements/*.txt)
	@echo "== installing what tests and linters need"
	@$(INSTALL) -r requirements/dev.txt
	@$(INSTALL) --no-deps -r requirements/pnnx.txt
	@touch $@

# The second leg. Its NumPy and OpenCV would take the first one's place, so VENV must be another folder.
$(VENV)/numpy1.stamp: requirements/numpy1.txt requirements/tests.txt pyproject.toml setup.py
	@echo "== creating $(VENV) of requirements/numpy1.txt, with what tests need"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(INSTALL) -r requirements/numpy1.txt -r requirements/tests.txt
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(VENV)/run.stamp  ## train, score, export and infer on the embedded data; output/demo/report.html
	@echo "== the demo: from an empty folder to a proven deployment"
	@$(BIN)/paddleseg-ext demo --save_dir output/demo

test: $(VENV)/dev.stamp  ## the fast tests (some 10 minutes on 2 cores)
	@echo "== the fast tests"
	@$(BIN)/python -m pytest -m "not slow and not gpu"

test-slow: $(VENV)/dev.stamp  ## the other tests: kill loops, whole suites (some 25 minutes on 2 cores)
	@echo "== the slow tests"
	@$(BIN)/python -m pytest -m "slow and not gpu"

lint: $(VENV)/dev.stamp  ## ruff, mypy, import-linter, shellcheck, yamllint, hadolint
	@echo "== ruff"; $(BIN)/ruff format --check . && $(BIN)/ruff check .
	@echo "== mypy"; $(BIN)/mypy
	@echo "== import-linter"; $(BIN)/lint-imports
	@echo "== shellcheck"; git ls-files '*.sh' '.ci/run' | xargs $(BIN)/shellcheck
	@echo "== yamllint"; $(BIN)/yamllint --strict .
	@echo "== hadolint"; $(BIN)/hadolint deploy/docker/*.Dockerfile

golden: $(VENV)/dev.stamp  ## compare with the original systems' numbers: GOLDEN_DIR=DIR
	@echo "== the golden cases under $(GOLDEN_DIR)"
	@$(BIN)/python -m tests.parity.run_golden $(GOLDEN_DIR)

tipc: $(VENV)/dev.stamp  ## every TIPC chain of every network, and a table of what came of it
	@echo "== every TIPC chain of every network"
	@PATH="$(abspath $(BIN)):$$PATH" bash test_tipc/run_all.sh

bench: $(VENV)/bench.stamp  ## the goals of docs/performance.md as ratios (some 10 minutes on 2 idle cores)
	@echo "== bundles of $(BENCH_WEIGHTS)"
	@$(BIN)/python export_model.py --config $(BENCH_CONFIG) --model_path $(BENCH_WEIGHTS) \
		--save_dir $(BENCH_DIR)/host --upsample host --mnn True
	@$(BIN)/python export_model.py --config $(BENCH_CONFIG) --model_path $(BENCH_WEIGHTS) \
		--save_dir $(BENCH_DIR)/argmax --output_op argmax --onnx True
	@$(BIN)/paddleseg-ext quantize --config $(BENCH_DIR)/host/deploy.yaml \
		--data $(BENCH_CALIBRATION) --backend openvino --save_dir $(BENCH_DIR)/int8
	@echo "== the goals, in turns"
	@$(BIN)/python benchmarks/goals.py --host $(BENCH_DIR)/host/deploy.yaml \
		--int8 $(BENCH_DIR)/int8/deploy.yaml --argmax $(BENCH_DIR)/argmax/deploy.yaml \
		--data $(BENCH_DATA) --save_dir $(BENCH_DIR) $(BENCH_FLAGS)

$(VENV)/bench.stamp: $(VENV)/run.stamp $(wildcard requirements/*.txt)
	@echo "== installing the runtimes that are compared"
	@$(INSTALL) -r requirements/onnx.txt -r requirements/openvino.txt -r requirements/mnn.txt -r requirements/fast.txt
	@touch $@

cpp: $(VENV)/run.stamp  ## the C++ program output/cpp/segment, and its tests under sanitizers (some 10 minutes)
	@$(INSTALL) -r requirements/openvino.txt
	@PYTHON=$(BIN)/python bash deploy/cpp/install.sh output/cpp

matrix:  ## the tour and unit tests on every Python here, and of numpy1.txt: output/matrix/table.md
	@$(PYTHON) tests/matrix.py $(MATRIX_FLAGS)

docs: $(VENV)/docs.stamp  ## one site of all pages and the API reference: output/site/index.html
	@echo "== the site in output/site"
	@$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going --jobs auto \
		-c docs/site -d output/site.cache . output/site
	@echo "open output/site/index.html"

$(VENV)/docs.stamp: requirements/docs.txt
	@echo "== installing what builds the site"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(INSTALL) -r requirements/docs.txt
	@touch $@

ONNX_VENV ?= .venv-onnx
# The first of these that runs: a shim of pyenv's may name a version that is not switched on.
HELPER_PYTHON ?= $(firstword $(foreach python,python3.12 python3.11 \
	$(wildcard $(HOME)/.pyenv/versions/3.12.*/bin/python $(HOME)/.pyenv/versions/3.11.*/bin/python), \
	$(shell $(python) -c 'print("$(python)")' 2>/dev/null)))
onnx-helper:  ## .venv-onnx of Python 3.12 or 3.11, which converts to ONNX for 3.13
	@test -n "$(HELPER_PYTHON)" || \
		{ echo "onnx-helper: no Python 3.12 or 3.11 was found: HELPER_PYTHON=FILE" >&2; exit 2; }
	@echo "== creating $(ONNX_VENV) with $(HELPER_PYTHON)"
	@$(HELPER_PYTHON) -m venv $(ONNX_VENV)
	@$(ONNX_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/paddle2onnx.txt
	@echo "now: export PADDLE2ONNX_PYTHON=$(abspath $(ONNX_VENV))/bin/python"

clean:  ## delete the demo's output and the caches; runs of your own and $(VENV) stay
	@echo "== deleting output/demo, output/tour, output/site and caches"
	@rm -rf api output/demo output/tour output/site output/site.cache .pytest_cache .mypy_cache .ruff_cache .hypothesis
