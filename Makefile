# make        lists the targets
# make train  environment, generated scenes, one training run, a table of scores
# make test   environment if missing, lint, types, all tests
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
  command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
RUN := $(VENV)/bin/python
PORT ?= 5000
UV := uv==0.13.9
BENCHES := loader augment losses train_step scoring lakes leakage import build coverage startup study predict validity
export MLFLOW_DISABLE_TELEMETRY = true
# uv compiles nothing as it installs: where Python may not keep what it compiles, every import of torch takes twice as long.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup train study-demo transfer-demo test suite oldest lint ui bench clean
.DEFAULT_GOAL := help

help:
	@echo "make setup   make the environment in $(VENV) (about 6 GB: torch brings CUDA)"
	@echo "make train   one training run on generated scenes, a few minutes without a GPU; the same as: python train.py"
	@echo "make study-demo  3 backbones x 2 augmentations x 3 seeds on small generated scenes, with a report"
	@echo "make transfer-demo  four regions on four regions, and one of them reached with few scenes; two reports"
	@echo "make test    lint, types and all tests"
	@echo "make oldest  all but the slow tests on the oldest versions that pyproject.toml allows, in an environment of their own"
	@echo "make lint    format and lint checks, types"
	@echo "make ui      look at the runs in a browser, http://127.0.0.1:$(PORT)"
	@echo "make bench   the measurements behind every speed claim, one JSON line each"
	@echo "make clean   remove caches and generated data; the runs in mlruns/ and the environment stay"

setup: $(VENV)/.ready

# The lock holds for Linux on x86-64; elsewhere the bounds in pyproject.toml choose.
$(VENV)/.ready: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "glidexp needs Python 3.11 or newer: install it, or name it: make setup PYTHON=/path/to/python3" >&2; exit 2; }
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	@$(RUN) -m pip install --quiet --disable-pip-version-check $(UV)
	@if [ "$$(uname -sm)" = "Linux x86_64" ]; then \
	  $(VENV)/bin/uv pip install --python $(RUN) -r requirements.lock && $(VENV)/bin/uv pip install --python $(RUN) --no-deps -e . ; \
	else $(VENV)/bin/uv pip install --python $(RUN) -e '.[dev]' ; fi
	@touch $@

train: setup
	$(RUN) train.py

study-demo: setup
	$(RUN) sweep.py study=demo

# The ladder begins with networks that the matrix has trained.
transfer-demo: setup
	$(RUN) sweep.py study=transfer_demo
	$(RUN) sweep.py study=transfer_demo_ladder

# Types are checked while tests begin. Three processes on two cores: some tests wait, for a server or for a time limit.
test: setup
	@$(MAKE) --no-print-directory -j 2 lint suite

# three processes share two cores: threads that wait sleep, and leave their core to the others
suite: export OMP_WAIT_POLICY = passive
suite: setup
	$(RUN) -m pytest -n 3 --dist worksteal --durations 15

# Lower bounds that nobody tries are wishes. After a change of a bound, or of the lock.
oldest: export OMP_NUM_THREADS = 1
oldest: setup
	@test -x $(VENV)-oldest/bin/python || $(RUN) -m venv $(VENV)-oldest
	$(VENV)/bin/uv pip install --python $(VENV)-oldest/bin/python --resolution lowest-direct -e '.[dev]'
	$(VENV)-oldest/bin/python -m pytest -n 2 --dist worksteal -m "not slow"

lint: setup
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

ui: setup
	$(VENV)/bin/glidexp ui --port $(PORT)

bench: setup
	@$(VENV)/bin/uv pip install --quiet --python $(RUN) -c requirements.lock '.[bench]'
	@for name in $(BENCHES); do $(RUN) bench/$$name.py || exit 1; done

clean:
	rm -rf data outputs multirun .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -not -path './$(VENV)*' -prune -exec rm -rf {} +
