# Two commands do everything on a fresh machine with Python 3.11+ and make: `make demo` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.PHONY: demo demo-scale test bench bench-gpu bench-layers check clean

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

# One stamp an extra: a target re-installs only when pyproject.toml changed. Byte code is written here, as pip does it
# for packages that are not editable: some environments tell Python to write none.
$(VENV)/.%: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable ".[$*]"
	$(BIN)/python -m compileall -q src
	touch $@

demo: $(VENV)/.plot
	$(BIN)/python examples/digits.py

demo-scale: $(VENV)/.plot
	$(BIN)/python examples/scale.py

check: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python

test: check
	$(BIN)/python -m pytest -n 2

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks

bench-gpu: $(VENV)/.bench-gpu
	$(BIN)/python -m benchmarks --gpu
	$(BIN)/python -m benchmarks --gpu --policy mixed_bfloat16

bench-layers: $(VENV)/.bench
	$(BIN)/python -m benchmarks.layers

clean:
	rm -rf $(VENV) build
