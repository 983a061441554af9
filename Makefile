# Two commands matter: `make quickstart` and `make test`. Everything else is here so that they can be run in parts.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
# One thread per process: two threaded processes on the same cores cost up to ten times the time.
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: help quickstart test setup setup-dev lint types contracts tests-only fast-tests format clean

help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

quickstart: setup  ## set up, then run a real campaign: configs/quickstart.yaml (again: resumes it)
	@$(BIN)/clusterflow run configs/quickstart.yaml

test: setup-dev lint types contracts tests-only  ## set up, then lint, types, import contracts and all tests

setup:  ## create .venv with everything a campaign needs
	@setup/install.sh

setup-dev:  ## the same, and the tools of `make test`
	@setup/install.sh --dev

lint: setup-dev  ## ruff: rules and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup-dev  ## mypy, strict
	$(BIN)/mypy -p clusterflow

contracts: setup-dev  ## which layer may import which
	$(BIN)/lint-imports

tests-only: setup-dev  ## all tests, file by file on two cores
	$(ONE_THREAD) $(BIN)/python -m pytest -n 2 --dist loadfile

fast-tests: setup-dev  ## the tests that take seconds
	$(ONE_THREAD) $(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

format: setup-dev  ## let ruff repair what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove .venv and caches (campaign folders stay)
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
