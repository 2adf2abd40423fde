# Two commands do all the set-up: `make run` and `make test`.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: run test lint types slow clean
.DELETE_ON_ERROR:

run: $(VENV)/core
	$(PY) -m benchmarks run

test: $(VENV)/dev
	$(PY) -m pytest

slow: $(VENV)/dev
	$(PY) -m pytest -m slow

lint: $(VENV)/dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(VENV)/dev
	$(VENV)/bin/mypy

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis

# What needs a compiler is installed tolerantly: without one the run still succeeds, and that row says how to get it.
$(VENV)/core: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "RecGauge needs Python 3.11 to 3.13, this is " + sys.version.split()[0] + ": make PYTHON=python3.12 …")'
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@echo "installing what is pinned in constraints.txt (about a minute)"
	$(PIP) -e .
	$(PIP) -e '.[lightfm]' || echo "lightfm could not be built (it needs a C compiler, such as gcc); its rows will say so"
	touch $@

$(VENV)/dev: $(VENV)/core
	$(PIP) -e '.[dev]'
	touch $@
