# The few commands of the workspace. Each target installs .venv by itself when it is missing or older than the lock.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(shell for p in python3.12 python3.11 python3 python; do $$p -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null && command -v $$p && break; done)
BIN := .venv/bin

# Kernels of modules are kept beside them; those of notebook cells here, in a folder named by a hash of the sources,
# because numba's cache does not notice an edit in a callee of another cell.
SOURCES := $(shell find quantlab -name '*.py' | LC_ALL=C sort | xargs cat 2>/dev/null | cksum | cut -d' ' -f1)
export XDG_CACHE_HOME := $(CURDIR)/.cache/code-$(SOURCES)/xdg
# IPython takes the folder only where it stands already; else it falls back to one that all checkouts share.
_ := $(shell mkdir -p "$(XDG_CACHE_HOME)")
export MPLCONFIGDIR := $(CURDIR)/.cache/matplotlib
export MLFLOW_DISABLE_TELEMETRY := true
export JUPYTER_PLATFORM_DIRS := 1
export PYDEVD_DISABLE_FILE_VALIDATION := 1

# Rooms whose tests compute and start nothing. Left out are the files that cost most or start processes: killed writers,
# Dask, Qlib, the audit of every registered set, fuzzed accounts, the slow second broker. `make test` runs them all.
UNIT := tests/core tests/features tests/labels tests/validation tests/portfolio tests/regime tests/broker tests/backtest \
	tests/risk tests/strategy
LEFT_OUT := core/test_ledger core/test_compute features/test_alpha158_alpha360 features/test_registered_sets \
	validation/test_multiple backtest/test_events backtest/test_slow_broker backtest/test_cold_start backtest/test_sweep

.PHONY: help install export report mlflow test lint test-unit test-slow deep test-deep fuzz mutate lab serve dashboard docs refresh bench bench-peers calibrate lock clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

install: .venv/.installed  ## create .venv with the locked packages (every other target does this by itself)

.venv/.installed: requirements.lock pyproject.toml
	@PYTHON="$(PYTHON)" bash scripts/install.sh

report: install  ## run the tearsheet on the committed sample and print where the page is
	@$(BIN)/quantlab report tearsheet

mlflow: install  ## browse the logged runs and registered models at http://127.0.0.1:5000
	@$(BIN)/python -m mlflow ui --host 127.0.0.1 --port 5000 --workers 1 \
		--backend-store-uri "sqlite:///$$($(BIN)/python -c 'from quantlab.core.config import path; print(path("research", "tracking"))')"

test: install  ## prove the workspace: clean, export, lint, contracts, notebooks, tests, templates
	@bash scripts/test.sh

lint: install  ## ruff, import contracts, annotations and types, and the counts of scripts/house.py
	@$(BIN)/ruff check quantlab scripts tests bench
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/python -m mypy
	@$(BIN)/python scripts/house.py

test-unit: install  ## the fast tests alone, under two minutes: no notebooks, no vendors, no pages
	@$(BIN)/pytest -q -n 2 --dist loadfile -m "not slow" $(UNIT) $(LEFT_OUT:%=--ignore=tests/%.py)

test-slow: install  ## the tests that take minutes or need ../shared
	@$(BIN)/pytest -q -m slow tests

deep: install  ## install torch for the processor, a text model with its weights and stable-baselines3 into .venv (1 GB)
	@bash scripts/deep.sh

test-deep: deep  ## the tests that need torch, and the notebooks of deep and of agents with every cell
	@$(BIN)/pytest -q tests/deep tests/report/test_deep_page.py tests/report/test_cascade_page.py tests/models/test_saved_models.py \
		tests/strategy/test_environment.py tests/strategy/test_agent.py tests/ops/test_mlproject.py
	@OMP_NUM_THREADS=1 $(BIN)/python scripts/test_notebooks.py nbs/deep/*.ipynb nbs/strategy/747_environment.ipynb nbs/strategy/748_agent.ipynb

fuzz: install  ## the property tests with new random examples (make test repeats the same ones)
	@$(BIN)/pytest -q -n 2 --dist loadfile --hypothesis-profile=fuzz -m "hypothesis and not slow" tests

mutate: install  ## change one operator at a time and see whether the tests notice; ONLY="room.module" runs one; resumes
	@$(BIN)/python scripts/mutate.py $(ONLY)

export: install  ## write quantlab/ from the notebooks, with the documentation of every public name (not nbdev_export)
	@$(BIN)/python scripts/export.py

lab: install  ## open JupyterLab at the start page; OPTIONS="--no-browser --port 8899" are handed on
	@$(BIN)/jupyter lab --notebook-dir=. $(if $(filter 0,$(shell id -u)),--allow-root) $(OPTIONS) nbs/tutorials/start.ipynb

serve: install  ## serve answers of [serve] recipe; where none is named, a rehearsal on the sample; OPTIONS="--port 9000"
	@$(BIN)/quantlab serve $$($(BIN)/python -c 'from quantlab.core.config import setting; print("" if setting("serve", "recipe") else "--rehearsal")') $(OPTIONS)

dashboard: install  ## serve the page to steer by at http://127.0.0.1:8501, on this machine only; OPTIONS="--port 9000"
	@$(BIN)/quantlab dashboard $(OPTIONS)

docs: install  ## render the notebooks to _docs/index.html
	@$(BIN)/python scripts/docs.py

refresh: install  ## run every notebook again and store its outputs; render README.md
	@OMP_NUM_THREADS=1 $(BIN)/python scripts/refresh.py

bench: install  ## run the benchmarks; ONLY=name runs one
	@$(BIN)/python bench/run.py $(ONLY)

bench-peers:  ## build the environments of peers that cannot share ours; ONLY=name builds one
	@for peer in bench/peers/requirements-*.txt; do \
		name=$$(basename $$peer .txt); name=$${name#requirements-}; \
		case " $(ONLY) " in "  "|*" $$name "*) ;; *) continue;; esac; \
		version=$$(sed -n '1s/^# python //p' $$peer); version=$${version:-3.11}; \
		python=$$(for p in $$($(BIN)/uv python find $$version 2>/dev/null) \
			$$(ls -d "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/$$version.*/bin/python 2>/dev/null || true); do \
			$$p -c pass 2>/dev/null && echo $$p && break; done || true); \
		if [ -z "$$python" ]; then echo "peer $$name is left out: it needs Python $$version, and none is here"; continue; fi; \
		$(BIN)/uv venv -q --allow-existing --python $$python .cache/peers/$$name && \
		$(BIN)/uv pip install -q --python .cache/peers/$$name/bin/python -r $$peer && echo "peer $$name is ready"; \
	done

calibrate: install  ## measure the false-alarm rates of the tests by simulation; ONLY=regimes runs one part; resumes
	@OMP_NUM_THREADS=1 $(BIN)/python scripts/calibrate.py $(ONLY)

lock: install  ## resolve the dependencies anew into requirements.lock
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --extra backtrader --extra mlflow --extra qlib --extra vendors --extra postgres --extra dask --extra boost --extra shap --extra excel --extra regime --extra portfolio --extra notify --extra passport --extra alpaca --extra fix --extra ib --extra bus --extra interactive --extra serve --extra metrics --extra client --extra dashboard --extra migrate --extra pricing --extra hft --extra filings --extra text --extra satellite --extra vine --extra dev \
		--no-header --no-annotate --no-emit-index-url --upgrade pyproject.toml -o requirements.lock

clean:  ## remove what can be made again: .venv, caches, docs (never data/lake or reports/runs)
	@rm -rf .venv .cache _docs _proc build *.egg-info .pytest_cache .hypothesis .ruff_cache .mypy_cache .import_linter_cache
	@find . -name __pycache__ -prune -exec rm -rf {} +
