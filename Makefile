# What there is to do here; `make` alone lists it.
VENV   ?= .venv
PYTHON ?= python3
DEMO   ?= demo
PIP    := $(VENV)/bin/python -m pip --disable-pip-version-check
RX     := $(VENV)/bin/rxdraft
READY  := $(VENV)/.installed
NODE   := tests/node/node_modules/.installed

.PHONY: help demo test check bench bench-etl bench-evaluate bench-train bench-train-gpu bench-kill-sweep bench-serve-model bench-serve formulations recipe format clean

help:
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

demo: $(READY) ## The main job on a synthetic hospital, about 8 minutes; a second run reuses what is whole
	$(RX) synth --out $(DEMO)/hospital --patients 1600 --seed 1
	$(RX) etl --mimic $(DEMO)/hospital --out $(DEMO)/cohort --open-data
	$(RX) train --data $(DEMO)/cohort --out $(DEMO)/runs/lists --base tiny --config smoke
	$(RX) train --data $(DEMO)/cohort --out $(DEMO)/runs/labels --base tiny --config labels
	$(RX) calibrate --model $(DEMO)/runs/labels --data $(DEMO)/cohort
	$(RX) evaluate --runs $(DEMO)/runs --oracle $(DEMO)/hospital/oracle.parquet --show
	@echo
	@echo "Start the service with:"
	@echo "  $(RX) serve --model $(DEMO)/runs/labels/rank-32/step-000429 --port 8000"

test: $(READY) $(NODE) ## All tests; offline, on the CPU
	$(VENV)/bin/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

check: $(READY) ## Style, types, import contracts
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

bench: ## All benchmarks at the small size; JSON on the last line of each
	$(MAKE) bench-etl ARGS=--quick
	$(MAKE) bench-evaluate ARGS=--quick
	$(MAKE) bench-train ARGS=--quick
	$(MAKE) bench-train-gpu ARGS=--toy
	$(VENV)/bin/python benchmarks/bench_serve_model.py --toy --quick

bench-etl: $(READY) ## The ETL at full MIMIC-IV size beside DuckDB, Polars and pandas; ARGS=--quick for a twentieth
	$(VENV)/bin/python benchmarks/bench_etl.py $(ARGS)

bench-train: $(READY) ## Training beside TRL and transformers' Trainer, two vocabularies; about an hour, ARGS='--repeat 1' a third
	$(VENV)/bin/python benchmarks/bench_train.py $(ARGS)

bench-train-gpu: $(READY) ## A step of the 8B shape on CUDA beside PEFT and Trainer; a toy shape without a GPU
	$(VENV)/bin/python benchmarks/bench_train_gpu.py $(ARGS)

bench-kill-sweep: $(READY) ## Twenty kill -9 during a sweep, then its bits beside an undisturbed one's
	$(VENV)/bin/python benchmarks/kill_sweep.py $(ARGS)

bench-serve-model: demo ## Drafts of the demo's last list checkpoint: one by one, sixteen at once, ten votes
	$(VENV)/bin/python benchmarks/bench_serve_model.py --runs $(DEMO)/runs/lists --labels-runs $(DEMO)/runs/labels --data $(DEMO)/cohort $(ARGS)

bench-serve: demo ## The service loaded, killed and starved, on SQLite and PostgreSQL; about an hour
	$(VENV)/bin/python benchmarks/bench_serve.py --model $(DEMO)/runs/labels/rank-32/step-000429 --data $(DEMO)/cohort --lists $(DEMO)/runs/lists/rank-32/step-000240 $(ARGS)

formulations: $(READY) ## docs/formulations.md anew: lists, votes, yes/no and labels on three hospitals, hours of one core
	$(VENV)/bin/python benchmarks/formulations.py --work $(DEMO)/formulations --write docs/formulations.md $(ARGS)

recipe: $(READY) ## docs/recipe.md anew: the ablation on the synthetic hospital, about an hour of one core
	$(VENV)/bin/python benchmarks/ablate_recipe.py --work $(DEMO)/recipe --write docs/recipe.md $(ARGS)

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

# What tests take from npm: a FHIR validator, an accessibility checker. Without npm those tests skip, and say why.
$(NODE): tests/node/package-lock.json
	@mkdir -p $(@D)
	if command -v npm >/dev/null; then npm ci --ignore-scripts --silent --no-audit --no-fund --prefix tests/node; fi
	@mkdir -p $(@D) && touch $@
