# Two commands on a fresh machine: `make lab` (or `make tune`) and `make test`. Each sets up what it
# needs: a virtual environment in .venv with the versions of constraints.txt.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup lab tune test check bench pictures clean

help: ## Show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /make \1\t/' | expand -t 16

setup: $(READY) ## Create .venv and install the pinned packages

lab: $(READY) ## Open JupyterLab on the first notebook (ARGS="--port 8890 --no-browser")
	@$(BIN)/resume-lab lab $(ARGS)

tune: $(READY) ## Find the index settings that are needed, write report.html (ARGS="--vectors FILE")
	@$(BIN)/resume-lab tune --html report.html $(ARGS)

test: $(READY) ## Run every test and every notebook (ARGS="tests/vectors")
	@$(BIN)/python -m pytest $(ARGS)

check: $(READY) ## Check format, lint, types, the direction of imports, and that notebooks are stripped
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/nbstripout --verify notebooks/*.ipynb

bench: $(READY) ## Print the figures of README's tables (about an hour; leave the machine alone)
	@$(BIN)/python -m benchmarks.seed_speed
	@$(BIN)/python -m benchmarks.exact_speed
	@$(BIN)/python -m benchmarks.prediction
	@$(BIN)/python -m benchmarks.tuner
	@$(BIN)/python -m benchmarks.ingestion
	@$(BIN)/python -m benchmarks.search_overhead
	@$(BIN)/python -m benchmarks.labelled
	@$(BIN)/python -m benchmarks.load
	@$(BIN)/python -m benchmarks.faults

pictures: $(READY) ## Measure again and redraw the pictures of the README
	@$(BIN)/python -m benchmarks.pictures

clean: ## Stop the embedded PostgreSQL; remove .venv, caches and reports, keep .lab (its data)
	@if [ -x $(BIN)/resume-lab ]; then $(BIN)/resume-lab db stop; fi
	rm -rf $(VENV) *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	rm -f report.html

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' || \
		{ echo "Python lacks venv; on Debian: apt-get install python3-venv"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV); this takes about a minute, once."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
