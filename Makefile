# `make demo` and `make test` need python3 (3.11 or later), pip and nothing else.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# Demo and tests never see the shell's environment: no key, no base URL, no proxy.
CLEAN  := env -i PATH="$(CURDIR)/$(BIN):/usr/local/bin:/usr/bin:/bin" HOME="$(CURDIR)/$(VENV)" LANG=C.UTF-8 TERM="$(TERM)" CI="$(CI)"

.DEFAULT_GOAL := help
.PHONY: help install demo test lint types bench drill lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

install: $(READY) ## make .venv with both distributions and every tool

$(READY): requirements/dev.txt producer/pyproject.toml workers/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "agentherd needs Python 3.11 or later; try: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --require-hashes -r requirements/dev.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -e producer -e workers
	@touch $@

demo: $(READY) ## run five real jobs on the simulated model (under a minute)
	$(CLEAN) $(BIN)/agentherd demo $(ARGS)

test: $(READY) ## run every test
	$(CLEAN) $(BIN)/pytest -n 2 --dist loadscope $(ARGS)

lint: $(READY) ## check style and imports
	$(CLEAN) $(BIN)/ruff check .
	$(CLEAN) $(BIN)/ruff format --check .

types: $(READY) ## check types, strictly
	$(CLEAN) $(BIN)/mypy producer/agentherd workers/agentherd_workers tests benchmarks drills examples

bench: $(READY) ## measure against the alternatives; JSON in build/
	$(CLEAN) $(BIN)/python -m benchmarks $(ARGS)

drill: $(READY) ## cause faults again and again (all drills; minutes)
	$(CLEAN) $(BIN)/python -m drills $(ARGS)

drill-%: $(READY)
	$(CLEAN) $(BIN)/python -m drills $* $(ARGS)

lock: $(READY) ## pin and hash every requirement again (needs uv)
	$(BIN)/python -m uv pip compile --quiet --universal --generate-hashes --no-emit-package agentherd --no-emit-package agentherd-workers --custom-compile-command "make lock" --python-version 3.11 --output-file requirements/dev.txt requirements/dev.in

clean: ## remove what the targets made
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .hypothesis
