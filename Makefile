# What there is to do here; `make` alone lists it.
VENV   ?= .venv
PYTHON ?= python3
DEMO   ?= demo
PIP    := $(VENV)/bin/python -m pip --disable-pip-version-check
RX     := $(VENV)/bin/rxdraft
READY  := $(VENV)/.installed

.PHONY: help demo test check bench bench-etl bench-evaluate format clean

help:
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: $(READY) ## The main job on a synthetic hospital, at most 8 minutes; a second run reuses what is whole
	$(RX) synth --out $(DEMO)/hospital --patients 1600 --seed 1
	$(RX) etl --mimic $(DEMO)/hospital --out $(DEMO)/cohort --open-data
	$(RX) train --data $(DEMO)/cohort --out $(DEMO)/runs --base tiny --config smoke
	$(RX) evaluate --runs $(DEMO)/runs --oracle $(DEMO)/hospital/oracle.parquet --show
	@echo
	@echo "Start the service with:"
	@echo "  $(RX) serve --model $(DEMO)/runs/rank-32/step-000240 --port 8000"

test: $(READY) ## All tests; offline, on the CPU
	$(VENV)/bin/python -m pytest -n auto --dist loadfile

check: $(READY) ## Style, types, import contracts
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

bench: ## All benchmarks at the small size; JSON on the last line of each
	$(MAKE) bench-etl ARGS=--quick
	$(MAKE) bench-evaluate ARGS=--quick

bench-etl: $(READY) ## The ETL at full MIMIC-IV size beside DuckDB, Polars and pandas; ARGS=--quick for a twentieth
	$(VENV)/bin/python benchmarks/bench_etl.py $(ARGS)

bench-evaluate: $(READY) ## The table of 8 checkpoints, 1,000 admissions and 2,000 redraws; then 20,000 admissions
	$(VENV)/bin/python benchmarks/bench_evaluate.py $(ARGS)

format: $(READY) ## Put the code into its usual form
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean: ## Remove what `make demo` made; the tiny base stays in the user's cache
	rm -rf $(DEMO)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@
