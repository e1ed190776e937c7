# `make setup` builds .venv from the lock file; every other target starts there.

VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PYTEST := $(BIN)/python -m pytest

# The newest Python that really runs and can make environments: version managers put names on PATH that only fail.
ENOUGH := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3.14 python3.13 python3.12 python3.11 python3; do \
	$$p -c '$(ENOUGH)' >/dev/null 2>&1 && { echo $$p; break; }; done)

export PIP_DISABLE_PIP_VERSION_CHECK = 1
export PIP_NO_INPUT = 1

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-kafka kafka check test test-long bench bench-kafka schemas docs lock clean

help: ## say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP) ## install into .venv what the lock file names

$(STAMP): pyproject.toml requirements.lock
	@[ -n "$(PYTHON)" ] && "$(PYTHON)" -c '$(ENOUGH)' 2>/dev/null || { \
		echo "coordinator needs Python 3.11 or newer with its venv module: install one, or name one with make PYTHON=…" >&2; \
		exit 1; }
	"$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

demo: setup ## the main job on real data, from nothing; ARGS are passed on
	$(BIN)/coordinator demo $(ARGS)

demo-kafka: setup ## the same on a Kafka broker, which is started if there is none
	@$(BIN)/python -m tests.kafka.broker sh -c 'exec $(BIN)/coordinator demo --log kafka://$$KAFKA_BOOTSTRAP $(ARGS)'

kafka: setup ## a Kafka broker for oneself, until Ctrl-C; says its address
	@$(BIN)/python -m tests.kafka.broker

check: setup ## lints, format, types, and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check ## check, then the tests; ARGS are passed on to pytest
	$(PYTEST) $(ARGS)

test-long: setup ## the tests with more seeds and longer runs
	COORDINATOR_TEST_PROFILE=long $(PYTEST) --timeout=3600 $(ARGS)

bench: setup ## measure; ARGS are passed on
	$(BIN)/python -m bench $(ARGS)

bench-kafka: setup ## measure on Kafka; ARGS are passed on
	$(BIN)/python -m bench.kafka $(ARGS)

schemas: setup ## write schemas/ and docs/messages.md from the message types
	$(BIN)/python -m coordinator.contract --write

docs: setup ## draw the status diagram from the live transition table
	$(BIN)/python docs/generate.py

lock: ## resolve pyproject.toml into requirements.lock again (needs uv); ARGS="--upgrade" moves the pins
	uv pip compile --quiet --universal --python-version 3.11 --extra dev --generate-hashes --no-header \
		$(ARGS) --output-file requirements.lock pyproject.toml

clean: ## remove .venv, caches and builds
	rm -rf $(VENV) build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
