# Two commands set everything up on a machine that has only Python and pip: `make demo` and `make test`.

PYTHON ?= python3
VENV ?= .venv

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
PLUGINS := $(sort $(wildcard plugins/*/pyproject.toml))
METADATA := pyproject.toml constraints.txt $(PLUGINS)

.DEFAULT_GOAL := help
.PHONY: help demo test check format changelog clean

help: ## list these commands
	@grep -hE '^[a-z]+:.*## ' Makefile | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 10

demo: $(VENV)/.demo ## install xfw and psa, run ten trials on embedded digits, print a table and a figure's path
	$(BIN)/xfw run psa --trials 10
	$(BIN)/xfw analyze @last

test: $(VENV)/.test ## install xfw and every plugin, run all tests
	$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/.dev ## check format, lint, types and documentation
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	cd docs/examples && $(abspath $(BIN))/mypy --strict */src
	$(BIN)/python -m pytest -q tests/test_docs.py tests/test_docs_lists.py

format: $(VENV)/.dev ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

changelog: ## print the fragments of changes/ as the next section of CHANGELOG.md
	@for kind in breaking feature fix docs internal; do \
	  set -- $$(ls changes/*.$$kind.md 2>/dev/null | sort -V); \
	  [ $$# -eq 0 ] || { printf '### %s\n\n' "$$kind"; cat "$$@"; printf '\n'; }; done

clean: ## remove the virtual environment and the caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "xfw needs Python 3.11 or newer: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(METADATA) | $(BIN)/python
	$(PIP) --editable . --editable plugins/psa
	@touch $@

$(VENV)/.test: $(METADATA) | $(BIN)/python
	$(PIP) --editable '.[test]' $(foreach plugin,$(PLUGINS),--editable '$(dir $(plugin))[test]')
	@touch $@

$(VENV)/.dev: $(METADATA) | $(BIN)/python
	$(PIP) --editable '.[dev]' $(foreach plugin,$(PLUGINS),--editable '$(dir $(plugin))[test]')
	@touch $@
