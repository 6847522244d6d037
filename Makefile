# Two commands do everything from a fresh clone: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STUDY := workflow/pinn_convection/study.yaml

.PHONY: help demo test test-slow lint clean

help:
	@echo "make demo   set up, run the demo study and leave runs/pinn_convection/report.html (about 4 minutes)"
	@echo "make test   set up, then lint, type check and test everything"
	@echo "make test-slow   the few tests on the test cluster that take minutes each"
	@echo "make lint   ruff, mypy and the layers of the packages only"
	@echo "make clean  remove the virtual environment and the demo's runs and checkpoints"

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed; try make PYTHON=python3.12"'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

demo: $(VENV)/ready
	$(BIN)/landscaper-hpc run $(STUDY)

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/python -m pytest -n 2 --no-loadscope-reorder

test-slow: $(VENV)/ready
	$(BIN)/python -m pytest -m slow

clean:
	rm -rf $(VENV) runs workflow/*/checkpoints
