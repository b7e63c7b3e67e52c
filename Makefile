PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test test-torch test-slow lint format clean

help: ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

$(VENV)/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(BIN)/pip install --quiet --editable '.[test]'
	touch $@

demo: $(VENV)/installed ## Set up, search a mask on the embedded digits, evaluate and export it
	$(BIN)/supermask search --arch conv4 --out demo
	$(BIN)/supermask eval demo/ticket-s0.safetensors
	$(BIN)/supermask export demo/ticket-s0.safetensors --format torch --output demo/conv4-torch.safetensors --force

test: $(VENV)/installed-test lint ## Set up, lint, run all fast tests
	$(BIN)/python -m pytest -m 'not slow' -n 2 --dist loadfile

test-torch: $(VENV)/installed-test ## Set up with PyTorch, check exported networks against it
	$(BIN)/pip install --quiet 'torch==2.13.0'
	$(BIN)/python -m pytest tests/test_torch.py

test-slow: $(VENV)/installed-test ## The tests of several minutes; those on real data need SUPERMASK_DATA_DIR
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/installed-test ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy supermask cli.py

format: $(VENV)/installed-test ## Let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove what the targets above made
	rm -rf $(VENV) demo build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
