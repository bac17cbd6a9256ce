# make demo     train on a small drawn and spoken data set and show the run in TensorBoard (KEEP=1: TensorBoard stays up)
# make test     check the format, lint, check the types, run the tests
# make test-oldest    run the tests of the client, the logger and the protocol with the lowest versions that they support
# make test-frameworks    train with Lightning, Transformers, Accelerate, Ignite and Stable-Baselines3, and compare the event files
# make test-compose   build the images and run the tests that start containers (needs a Docker engine)
# make soak     run every fault with its full numbers, then a random mix of faults for half an hour (SOAK_MINUTES=30)
# make sick     train the reference trainer in health and in eleven sicknesses, and write which rule finds what into docs/FINDINGS.md
# make format   format the code and apply the linter's fixes
# make bench    run all benchmarks
# make clean    remove the environments, the caches and the demo's files (never your data)

PYTHON ?= python3
VENV   ?= .venv
OLDEST ?= .venv-oldest
FRAMEWORKS ?= .venv-frameworks
SOAK_MINUTES ?= 30
SICK   ?= build/sick
BIN    := $(VENV)/bin
PIP    := -m pip --disable-pip-version-check install --quiet --constraint
# When a test hangs beyond its own timeout: print the stack of every thread, and end the process.
HANGS  := -o faulthandler_timeout=330 -o faulthandler_exit_on_timeout=true
CODE   := src protocol telemetry trainer logger_service benchmarks tests

# Old libraries call functions of other libraries that are deprecated today.
AGED   := -W default::DeprecationWarning -W default::PendingDeprecationWarning

.PHONY: demo test test-oldest test-compose test-frameworks check soak sick format bench clean
.DELETE_ON_ERROR:

demo: $(VENV)/demo-installed
	@$(BIN)/python -m tensorboard_sidecar.trainer.demo $(if $(KEEP),--keep) $(DEMO)

test: check
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadgroup -m "not compose and not frameworks" $(HANGS) $(TESTS) || [ $$? = 5 ]

test-oldest: $(OLDEST)/installed
	@$(OLDEST)/bin/python -m pytest --numprocesses 2 --dist loadgroup -m "not compose and not browser and not cuda" $(HANGS) \
	  $(AGED) $(if $(TESTS),$(TESTS),tests/protocol tests/telemetry tests/logger_service)

test-compose: $(VENV)/test-installed
	@$(BIN)/python -m pytest -m compose $(TESTS) || [ $$? = 5 ]

test-frameworks: $(FRAMEWORKS)/installed
	@$(FRAMEWORKS)/bin/python -m pytest $(HANGS) $(if $(TESTS),$(TESTS),tests/frameworks)

soak: $(VENV)/test-installed
	@SOAK_MINUTES=$(SOAK_MINUTES) $(BIN)/python -m pytest --numprocesses 2 --dist worksteal -rP tests/faults tests/network/test_fuzz.py

sick: $(VENV)/test-installed
	@PYTHONPATH=tests $(BIN)/python -m findings.confusion $(SICK) --write docs/FINDINGS.md

check: $(VENV)/test-installed
	@$(BIN)/ruff format --check $(CODE)
	@$(BIN)/ruff check $(CODE)
	@$(BIN)/mypy

format: $(VENV)/test-installed
	@$(BIN)/ruff format $(CODE)
	@$(BIN)/ruff check --fix $(CODE)

bench: $(VENV)/test-installed
	@for name in training_thread add_scalar short_writers step_tail step_inflation pipeline projection rendering; do $(BIN)/python -m benchmarks.$$name || exit 1; done

clean:
	rm -rf $(VENV) $(OLDEST) $(FRAMEWORKS) .mypy_cache .ruff_cache .pytest_cache .hypothesis demo build *.egg-info

$(VENV)/created $(OLDEST)/created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed, this is $$($(PYTHON) --version); try: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(@D)
	@touch $@

$(VENV)/demo-installed: $(VENV)/created pyproject.toml constraints.txt
	@echo "Installing into $(VENV) (PyTorch is large; once, some minutes) ..."
	@$(BIN)/python $(PIP) constraints.txt --editable '.[trainer,logger,tensorboard]'
	@touch $@

$(VENV)/test-installed: $(VENV)/demo-installed pyproject.toml constraints.txt
	@$(BIN)/python $(PIP) constraints.txt --editable '.[trainer,logger,tensorboard,dev]'
	@touch $@

# Python 3.11: later Pythons have no wheels of the lowest versions.
$(OLDEST)/installed: $(OLDEST)/created pyproject.toml constraints-oldest.txt
	@echo "Installing into $(OLDEST) (PyTorch is large; once, some minutes) ..."
	@$(OLDEST)/bin/python $(PIP) constraints-oldest.txt --editable '.[trainer,logger,tensorboard]' \
	  pytest pytest-timeout pytest-xdist hypothesis
	@touch $@

# The frameworks lie on top of the environment of the tests, which has PyTorch.
$(FRAMEWORKS)/installed: $(VENV)/test-installed pyproject.toml constraints.txt constraints-frameworks.txt
	@echo "Installing the frameworks into $(FRAMEWORKS) ..."
	@$(BIN)/python -m venv $(@D)
	@below=$$($(BIN)/python -c 'import site; print(site.getsitepackages()[0])'); cd $(@D)/lib/python*/site-packages && \
	  echo "import site; site.addsitedir('$$below')" > tests-environment.pth
	@$(@D)/bin/python $(PIP) constraints.txt --constraint constraints-frameworks.txt \
	  --editable '.[lightning,transformers,accelerate,ignite]' gymnasium stable-baselines3
	@touch $@
