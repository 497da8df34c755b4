# make demo: solve the bundled instances and draw the solutions.
# make test: run the tests.
# Both do all set-up in .venv; they need Python 3.11 or newer and nothing else.

NEW := 'import sys; sys.exit(sys.version_info < (3, 11))'
PYTHON ?= $(shell for p in python3 python3.12 python3.11 python3.13; do \
	$$p -c $(NEW) 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(abspath $(VENV))/bin
READY := $(VENV)/.ready

.PHONY: demo test lint types bench clean

demo: $(READY)
	$(BIN)/nco demo --out demo-out

test: $(READY)
	$(BIN)/python -m pytest -n 2

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

# The four folders install as one package, so the installed copy is what is checked.
types: $(READY)
	rm -rf build
	$(BIN)/python -m pip install --quiet --no-deps --target build/types .
	cd build/types && $(BIN)/mypy --config-file $(CURDIR)/pyproject.toml -p nco

bench: $(READY)
	$(BIN)/nco bench nco/examples/*.tsp nco/examples/*.atsp nco/examples/*.vrp nco/examples/*.kp \
	  --references nco/examples/references.csv --solver auto --solver greedy --solver pyvrp \
	  --time-limit 5 --by instance --out bench.jsonl

$(READY): pyproject.toml
	@test -n "$(PYTHON)" && $(PYTHON) -c $(NEW) || \
	  { echo "nco needs Python 3.11 or newer: make PYTHON=/path/to/python3"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
# Kernels are compiled once per machine: here, so that no time limit pays for it.
	$(BIN)/python -m nco.classical.compiling
	@touch $@

clean:
	rm -rf build demo-out
