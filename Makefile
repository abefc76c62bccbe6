# The two commands that matter: `make demo` and `make test`. Both build the environment first; a second run is quick.
#
#   TORCH=torch                  another PyTorch, such as a GPU build (default: the release this project is tested with)
#   PIP_INSTALL_FLAGS=...        flags for pip, such as another index
#   CMAKE_ARGS=...               how llama.cpp is compiled; the default is for the processor of this machine

VENV ?= .venv
PYTHON ?= python3
TORCH ?= torch==2.13.0
PIP_INSTALL_FLAGS ?=
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help install demo test lint types unit format clean

help:  ## what there is to do
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 12

install: $(STAMP)  ## the environment in .venv (compiles llama.cpp once: about ten minutes)

# PyTorch comes first: asked for later, by name alone, it would bring gigabytes of GPU libraries.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Night Monk needs Python 3.11 or newer; set PYTHON=python3.11" >&2; exit 2; }
	@command -v cc >/dev/null && command -v c++ >/dev/null || { echo "llama.cpp is compiled here: install a C++ compiler first (apt-get install build-essential)" >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(PIP_INSTALL_FLAGS) "$(TORCH)"
	$(BIN)/python -m pip install --quiet $(PIP_INSTALL_FLAGS) --editable ".[dev]"
	@touch $(STAMP)

demo: install  ## a whole night in a few minutes: daemon, corpus, five jobs, the morning report
	$(BIN)/monk demo

test: install lint types unit  ## everything CI checks

lint: install  ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install  ## mypy --strict
	$(BIN)/mypy

unit: install  ## pytest
	$(BIN)/pytest

format: install  ## put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## what was built, but not the environment
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
