# Everything a newcomer or a server runs. It needs Python 3.11 or newer with pip, and make; the rest is installed into
# $(VENV), once per extra: a stamp there is newer than pyproject.toml until that file changes.

VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=
# Processes that run tests.
JOBS ?= auto

# python3 if it is new enough, else the newest interpreter on PATH that is; PYTHON=... overrides.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$python"; break; }; \
	done)

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench clean
.DELETE_ON_ERROR:

help:  ## say what there is
	@sed -n 's/^\([a-z]*\):.*## /  make \1 	/p' Makefile

demo: $(VENV)/.installed-demo  ## the compile service under load, in one screen
	@$(BIN)/python -m examples.compile_demo $(ARGS)

test: $(VENV)/.installed-test  ## every test, with branch coverage (ARGS="-k disk --no-cov" for some, JOBS=0 for one process)
	$(BIN)/python -m pytest -n $(JOBS) --cov --cov-report=term $(ARGS)

lint: $(VENV)/.installed-dev  ## ruff, mypy and pyright, all strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

bench: $(VENV)/.installed-bench  ## acache against its peers, as a table and a plot
	$(BIN)/python -m benchmarks $(ARGS)

clean:  ## remove what the other targets made
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage .coverage.* htmlcov build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# pyright runs on node: with this extra it comes as a wheel, and neither npm nor a download of node is needed.
dev-too := 'pyright[nodejs]'

$(VENV)/.installed-%: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]' $($*-too)
	@touch $@

# Debian's python3 has no ensurepip without python3-venv: there, pip installs pip from outside.
$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "acache needs Python 3.11 or newer; none was found (try make PYTHON=/path/to/python3)" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "acache needs Python 3.11 or newer, and $(PYTHON) is not (try make PYTHON=/path/to/python3)" >&2; exit 1; }
	"$(PYTHON)" -m venv $(VENV) 2>/dev/null || { rm -rf $(VENV) && "$(PYTHON)" -m venv --without-pip $(VENV) && \
		"$(PYTHON)" -m pip --python $(BIN)/python install --quiet pip; }
