# The two commands that matter: `make demo` and `make test`. Both build the environment first; a second run is quick.
#
#   TEST_JOBS=N                  tests side by side, each with its share of the cores (default: 2)
#   TORCH=torch                  another PyTorch, such as a GPU build (default: the release this project is tested with)
#   PIP_INSTALL_FLAGS=...        flags for pip, such as another index
#   BENCH_JOBS=N                 compilers at once for bench-peers (default: all cores)
#   CMAKE_ARGS=...               how llama.cpp is compiled; the default is for the processor of this machine

VENV ?= .venv
PYTHON ?= python3
TORCH ?= torch==2.13.0
PIP_INSTALL_FLAGS ?=
TEST_JOBS ?= 2
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LLAMA_VERSION := $(shell sed -n 's/.*"llama-cpp-python==\([^"]*\)".*/\1/p' pyproject.toml)
PEER := .bench/llama-$(LLAMA_VERSION)
BENCH_JOBS ?= $(shell nproc)
PEER_FLAGS := -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DBUILD_SHARED_LIBS=OFF -DLLAMA_BUILD_UI=OFF \
  -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF

.PHONY: help install demo test lint types unit format bench-peers bench clean

help:  ## what there is to do
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

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
	$(BIN)/pytest -n $(TEST_JOBS) --dist worksteal

format: install  ## put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The peers of the engine's measurements are the server and the benchmark of the very llama.cpp the engine runs on: the
# pinned source again, unpacked and configured once. Static and with OpenMP, as the package's own build; nothing in it that goes out to the network.
bench-peers: $(PEER)/bin/llama-server $(PEER)/bin/llama-bench  ## llama-server and llama-bench in .bench, to measure against (ten minutes)

$(PEER)/bin/llama-server $(PEER)/bin/llama-bench: | $(PEER)/Makefile
	PATH="$$PATH:$(abspath $(BIN))" cmake --build $(PEER) --target $(notdir $@) -j $(BENCH_JOBS)

$(PEER)/Makefile: | $(STAMP)
	@command -v cmake >/dev/null || test -x $(BIN)/cmake || $(BIN)/python -m pip install --quiet $(PIP_INSTALL_FLAGS) cmake
	rm -rf .bench/source && mkdir -p .bench/source .bench/sdist
	$(BIN)/python -m pip download --quiet $(PIP_INSTALL_FLAGS) --no-deps --no-binary :all: --dest .bench/sdist \
	  llama-cpp-python==$(LLAMA_VERSION)
	tar -xzf .bench/sdist/llama_cpp_python-$(LLAMA_VERSION).tar.gz -C .bench/source --strip-components=1
	PATH="$$PATH:$(abspath $(BIN))" cmake -G "Unix Makefiles" -S .bench/source/vendor/llama.cpp -B $(PEER) $(PEER_FLAGS) $(CMAKE_ARGS)

bench: bench-peers  ## how fast the engine is, against its peers; an hour on a quiet machine
	$(BIN)/python -m tests.bench.engine

clean:  ## what was built, but not the environment
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
