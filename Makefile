# make demo     train on a small drawn and spoken data set and watch it in TensorBoard (KEEP=1: TensorBoard stays up)
# make test     format check, lint, types, tests
# make test-compose   build the images and run the tests that start containers (needs a Docker engine)
# make soak     every fault with its full numbers, and for half an hour a random mix of them (SOAK_MINUTES=30)
# make format   format the code and fix what the linter can
# make bench    all benchmarks
# make clean    remove the environment, caches and what the demo made (never your data)

PYTHON ?= python3
VENV   ?= .venv
SOAK_MINUTES ?= 30
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
# A test that even its timeout does not end: say where every thread is, and end its process.
HANGS  := -o faulthandler_timeout=330 -o faulthandler_exit_on_timeout=true
CODE   := src protocol telemetry trainer logger_service benchmarks tests

.PHONY: demo test test-compose check soak format bench clean
.DELETE_ON_ERROR:

demo: $(VENV)/demo-installed
	@$(BIN)/python -m tensorboard_sidecar.trainer.demo $(if $(KEEP),--keep) $(DEMO)

test: check
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadgroup -m "not compose" $(HANGS) $(TESTS) || [ $$? = 5 ]

test-compose: $(VENV)/test-installed
	@$(BIN)/python -m pytest -m compose $(TESTS) || [ $$? = 5 ]

soak: $(VENV)/test-installed
	@SOAK_MINUTES=$(SOAK_MINUTES) $(BIN)/python -m pytest --numprocesses 2 --dist worksteal -rP tests/faults tests/network/test_fuzz.py

check: $(VENV)/test-installed
	@$(BIN)/ruff format --check $(CODE)
	@$(BIN)/ruff check $(CODE)
	@$(BIN)/mypy

format: $(VENV)/test-installed
	@$(BIN)/ruff format $(CODE)
	@$(BIN)/ruff check --fix $(CODE)

bench: $(VENV)/test-installed
	@for name in training_thread step_tail step_inflation pipeline projection rendering; do $(BIN)/python -m benchmarks.$$name || exit 1; done

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis demo build *.egg-info

$(VENV)/created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed, $$($(PYTHON) --version) came; try: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/demo-installed: $(VENV)/created pyproject.toml constraints.txt
	@echo "Installing into $(VENV) (PyTorch is large; once, some minutes) ..."
	@$(PIP) --editable '.[trainer,logger,tensorboard]'
	@touch $@

$(VENV)/test-installed: $(VENV)/demo-installed pyproject.toml constraints.txt
	@$(PIP) --editable '.[trainer,logger,tensorboard,dev]'
	@touch $@
