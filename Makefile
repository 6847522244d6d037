# Two commands do everything from a fresh clone: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STUDY := workflow/pinn_convection/study.yaml

OLDEST := .venv-oldest
SNAKEMAKE := .venv-snakemake
# bytecode is kept whatever the shell says: tests start hundreds of processes that import all this
export PYTHONDONTWRITEBYTECODE =
FAST := 'not slow and not peers and not slurm and not mpi and not processes and not thorough'

.PHONY: help demo test tests test-fast test-slow test-peers test-oldest lint docs clean

help:
	@echo "make demo   set up, run the demo study and leave runs/pinn_convection/report.html (about 6 minutes, 3 to 4 of them after installation)"
	@echo "make test   set up, then lint, type check and test everything but the slow"
	@echo "make test-fast   set up, then the tests that start no other processes, and are not marked thorough"
	@echo "make test-slow   the tests that take minutes each"
	@echo "make test-peers   set up, install VTK and others (600 MB), then the tests of what only these read"
	@echo "make test-oldest   the fast tests on the oldest versions of everything but torch"
	@echo "make docs   the site, strictly, into build/site"
	@echo "make lint   ruff, mypy and the layers of the packages only"
	@echo "make clean  remove the virtual environment and the demo's runs and checkpoints"

# what is imported is compiled to bytecode, a quarter of what is installed: all of it would take a minute more
$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed; try make PYTHON=python3.12"'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[test]'
	$(BIN)/python -c 'import dask.distributed, gudhi, landscaper_hpc.commands, matplotlib.pyplot, numba, torch, xarray'
	touch $@

demo: $(VENV)/ready
	$(BIN)/landscaper-hpc run $(STUDY)

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# side by side: mypy takes a minute of one processor
test: $(VENV)/ready
	$(MAKE) --jobs 2 lint tests

# each process collects all tests and loads all that they need: half a minute; two of the four wait for Slurm at first
tests: $(VENV)/ready
	$(BIN)/python -m pytest -n 4 --no-loadscope-reorder --durations=25

test-fast: $(VENV)/ready
	$(BIN)/python -m pytest -n 2 --no-loadscope-reorder -m $(FAST)

test-slow: $(VENV)/ready
	$(BIN)/python -m pytest -m slow

$(VENV)/peers: $(VENV)/ready
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[peers]'
	touch $@

# Snakemake wants older packages than ours: it has an environment of its own
$(SNAKEMAKE)/ready:
	$(PYTHON) -m venv $(SNAKEMAKE)
	$(SNAKEMAKE)/bin/python -m pip install --quiet snakemake==9.27.1
	touch $@

test-peers: $(VENV)/peers $(SNAKEMAKE)/ready
	PATH="$$PATH:$(CURDIR)/$(SNAKEMAKE)/bin" $(BIN)/python -m pytest -m peers

$(OLDEST)/ready: pyproject.toml tests/oldest.py
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --constraint constraints.txt torch
	$(PYTHON) tests/oldest.py > $(OLDEST)/oldest.txt
	$(OLDEST)/bin/python -m pip install --quiet --constraint $(OLDEST)/oldest.txt --editable '.[test,mpi,slurm,dask]'
	touch $@

# where a new version of another package calls deprecated what an old one uses, that is no fault of ours
test-oldest: $(OLDEST)/ready
	$(OLDEST)/bin/python -m pytest -W ignore::DeprecationWarning -n 2 --no-loadscope-reorder -m $(FAST)

$(VENV)/docs: $(VENV)/ready
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

docs: $(VENV)/docs
	$(BIN)/python -m mkdocs build --strict

clean:
	rm -rf $(VENV) $(OLDEST) $(SNAKEMAKE) build runs workflow/*/checkpoints
