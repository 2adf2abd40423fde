# Two commands do all the set-up: `make run` and `make test`.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: run test lint types slow soak bench reference clock readme clean
.DELETE_ON_ERROR:

run: $(VENV)/core
	$(PY) -m benchmarks run

# Two processes: most tests wait for workers that they started. A file's tests stay together, and share what they made.
test: $(VENV)/dev
	$(PY) -m pytest -n 2 --dist loadfile --durations 15

slow: $(VENV)/dev
	$(PY) -m pytest -m slow

# Two minutes of faults of every kind, then what was lost: nothing. ARGS go to it: make soak ARGS="--seed 7 --seconds 600".
soak: $(VENV)/dev
	$(PY) tests/faults/soak.py $(ARGS)

# Has RecGauge itself become slower? Three minutes; ARGS go to the command: make bench ARGS="-k load --base HEAD".
bench: $(VENV)/dev
	$(PY) -m benchmarks regress $(ARGS)

# The published results: two hours, best on a machine that does nothing else.
reference: $(VENV)/core
	$(PY) -m benchmarks tune --dataset ml-latest-small
	$(PY) -m benchmarks run --dataset ml-latest-small --config default,tuned --seeds 3 --compact --results results/reference
	$(PY) -m benchmarks run --suite diversity --compact --results results/reference/diversity

# The published speeds: twenty minutes, on a machine that does nothing else.
clock: $(VENV)/core
	$(PY) -m benchmarks run --suite clock --compact --results results/reference/clock

# The leaderboard and the pictures in README.md, of the published results; needs Chromium.
readme: $(VENV)/core
	$(PY) -m benchmarks report --results results/reference --config default --dataset ml-latest-small \
		--out results/runs/reference.html --pictures results/reference --readme README.md

lint: $(VENV)/dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(VENV)/dev
	$(VENV)/bin/mypy

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis

# Frameworks are installed tolerantly: without one the run still succeeds, and its rows say how to get it.
$(VENV)/core: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "RecGauge needs Python 3.11 to 3.13, this is " + sys.version.split()[0] + ": make PYTHON=python3.12 …")'
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@echo "installing what is pinned in constraints.txt (minutes, some gigabytes: PyTorch and TensorFlow are in it)"
	$(PIP) -e .
	for extra in lightfm torch tensorflow report; do \
		$(PIP) -e ".[$$extra]" || echo "the extra $$extra could not be installed; its rows will say what is missing"; \
	done
	touch $@

$(VENV)/dev: $(VENV)/core
	$(PIP) -e '.[dev]'
	$(PIP) -e '.[ray]' || echo "the extra ray could not be installed; its tests are skipped"
	touch $@
