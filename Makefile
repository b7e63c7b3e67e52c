PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LINT_VENV := .venv-lint
LINT_BIN := $(LINT_VENV)/bin

# What CI runs on a second Python and the newest libraries that pip finds for it: floors, contracts, tickets of earlier
# versions, search, eval, export and resume. Networks are the same on any of them.
QUICK := tests/test_layers.py tests/test_golden.py tests/test_ticket.py \
	tests/datasets/test_contract.py tests/methods/test_methods.py tests/exporters/test_exporters.py \
	tests/experiments/test_run.py

# Tests start hundreds of processes: what they import is compiled once, and not by each of them.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test test-quick test-torch test-slow lint format clean

help: ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

$(VENV)/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/installed-test: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[test]'
	touch $(VENV)/installed $@

$(LINT_VENV)/installed: requirements-lint.txt
	$(PYTHON) -m venv $(LINT_VENV)
	$(LINT_BIN)/pip install --quiet --no-compile --requirement requirements-lint.txt
	touch $@

demo: $(VENV)/installed ## Set up, search a mask on the embedded digits, evaluate and export it
	$(BIN)/supermask search --arch conv4 --out demo
	$(BIN)/supermask eval demo/ticket-s0.safetensors
	$(BIN)/supermask export demo/ticket-s0.safetensors --format torch --output demo/conv4-torch.safetensors --force

test: $(VENV)/installed-test ## Set up, run all fast tests
	$(BIN)/python -m pytest -m 'not slow' -n 3 --dist loadfile --no-loadscope-reorder

test-quick: $(VENV)/installed-test ## Set up, run the fast tests of what every user needs
	$(BIN)/python -m pytest -m 'not slow' -n 2 --dist loadfile $(QUICK)

$(VENV)/installed-torch: $(VENV)/installed-test
	$(BIN)/pip install --quiet 'torch==2.13.0'
	touch $@

test-torch: $(VENV)/installed-torch ## Set up with PyTorch, check exported networks against it
	$(BIN)/python -m pytest -m 'not slow' -n 2 tests/exporters/test_torch*.py

test-slow: $(VENV)/installed-test ## The tests of several minutes; those on real data need SUPERMASK_DATA_DIR
	$(BIN)/python -m pytest -m slow

lint: $(LINT_VENV)/installed ## ruff and mypy, pinned, in an environment of their own
	$(LINT_BIN)/ruff check .
	$(LINT_BIN)/ruff format --check .
	$(LINT_BIN)/mypy supermask cli.py

format: $(LINT_VENV)/installed ## Let ruff mend what it can
	$(LINT_BIN)/ruff check --fix .
	$(LINT_BIN)/ruff format .

clean: ## Remove what the targets above made
	rm -rf $(VENV) .venv-* demo build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
