# Two commands: `make demo` runs the whole main job, `make test` all tests. Each sets up what it needs,
# is quiet about what is already there, and works as root and as an ordinary user.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# PyTorch first and alone, so that nothing else chooses a build of it. On Linux the default index serves the
# CUDA build of several GB; the CPU build is enough here: see "Get started" at pytorch.org for its index and
# pass it on, e.g. make demo TORCH='torch==2.13.0 --index-url …'
TORCH ?= torch==2.13.0
# Processes that test side by side, each with a PostgreSQL of its own. A file's tests stay together.
WORKERS ?= auto
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

.PHONY: demo test lint bench clean
.DEFAULT_GOAL := help

help:
	@echo "make demo   from a scene to a verified hit, then two tampered ones refused"
	@echo "make test   all tests, with a real PostgreSQL"
	@echo "make lint   ruff and mypy"
	@echo "make bench  the benchmarks of docs/benchmarks.md"

demo: $(VENV)/ready
	@$(BIN)/eocat demo $(DEMO)

test: $(VENV)/ready
	@$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile $(TESTS)

lint: $(VENV)/ready
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

bench: $(VENV)/ready
	@for file in tests/benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

clean:
	rm -rf $(VENV)

$(VENV)/ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "eocat needs Python 3.11 or newer: make PYTHON=python3.12 …" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	  { echo "python -m venv failed: install your system's python3-venv package" >&2; exit 1; }
	@echo "installing into $(VENV) (once) …" >&2
	@$(PIP) install --upgrade 'pip>=25.1'
	@$(PIP) install $(TORCH)
	@$(PIP) install --editable . --group dev
	@touch $@
