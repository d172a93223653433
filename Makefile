# make help | install | quickstart | test. Everything runs from .venv, which `install` makes.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
# cpu or gpu: which lock is installed. `make install DEVICE=cpu` overrides what nvidia-smi says.
ifndef DEVICE
DEVICE := $(shell nvidia-smi >/dev/null 2>&1 && echo gpu || echo cpu)
endif
ifeq ($(filter $(DEVICE),cpu gpu),)
$(error DEVICE is '$(DEVICE)', expected cpu or gpu)
endif

LOCKS ?= infra/requirements
LOCK := infra/requirements/$(DEVICE).lock
BIN := .venv/bin
# Named after the lock's content, so that an unchanged lock is installed once, and a changed one again.
HASH := $(shell cat $(LOCK) pyproject.toml | (sha256sum 2>/dev/null || shasum -a 256) | cut -c1-16)
STAMP := .venv/.installed-$(DEVICE)-$(HASH)
PACKAGES := feature_store pipelines recsys serving

export RAY_USAGE_STATS_ENABLED := 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# uv does not read the system's certificates unless told to; pip does.
export UV_SYSTEM_CERTS := 1
# Every worker process of Ray imports its engines anew, which takes longer without bytecode.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install quickstart test lint types unit gpu format lock clean

help: ## print this
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## create .venv from the lock (DEVICE=cpu|gpu); instant when up to date

# torchrec requires fbgemm-gpu even where fbgemm-gpu-cpu takes its place: all but torch is installed
# without dependencies, for the lock is complete. torch comes first and by pip, which can find the
# CPU build by itself where an index has one (PIP_EXTRA_INDEX_URL); from PyPI alone it is the CUDA
# build, which works too and is larger by gigabytes.
$(STAMP):
	@command -v $(PYTHON) >/dev/null || { \
	  echo "install: '$(PYTHON)' not found; install Python 3.11, or name it: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "install: $$($(PYTHON) --version 2>&1) is too old; Python 3.11 or newer is needed: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "install: $(PYTHON) has no venv module; install it (on Debian and Ubuntu: python3-venv)" >&2; exit 1; }
	@echo "install 1/4: virtual environment in .venv ($(DEVICE))"
	@if [ -x $(BIN)/python ] && [ -z "$$(find .venv -maxdepth 1 -name '.device-*' ! -name '.device-$(DEVICE)')" ]; \
	  then rm -f .venv/.installed-*; else $(PYTHON) -m venv --clear .venv; fi
	@touch .venv/.device-$(DEVICE)
	@echo "install 2/4: torch"
	@$(BIN)/python -m pip install --quiet -c $(LOCK) "$$(grep -m1 '^torch==' $(LOCK))" uv
	@echo "install 3/4: $$(grep -c == $(LOCK)) packages of $(LOCK)"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -r $(LOCK) || { \
	  echo "install 3/4: uv failed, using pip"; \
	  $(BIN)/python -m pip install --quiet --no-deps -r $(LOCK); }
	@echo "install 4/4: recsys"
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

ML100K := data/movielens-100k
quickstart: install ## from nothing to a trained, evaluated and exported model of real data
	$(BIN)/recsys fetch movielens-100k -o $(ML100K)
	@[ -e $(ML100K)/config.yaml ] || { set -x; $(BIN)/recsys init --events $(ML100K)/events \
	  --items $(ML100K)/items.parquet --queries $(ML100K)/queries.parquet -o $(ML100K)/config.yaml; }
	$(BIN)/recsys run $(ML100K)/config.yaml --set training.epochs=6

# Lint and types run beside the tests and end long before them.
test: install ## lint, types and unit: what continuous integration runs
	@$(MAKE) --no-print-directory -j3 lint types unit

lint: install ## ruff: rules and formatting
	$(BIN)/ruff check $(PACKAGES) tests docs
	$(BIN)/ruff format --check $(PACKAGES) tests docs

types: install ## mypy
	$(BIN)/mypy

# Tests are run by JOBS processes, each of which may start a Ray of its own: 3 GiB. A process that
# has none left takes over half of another's.
JOBS ?= 2
unit: install ## pytest; ARGS="-m 'not slow'" or ARGS=tests/contracts/test_cli.py for fewer
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal --durations 25 $(ARGS)

gpu: install ## tests on a GPU, at most 8 minutes; figures and traces stay in build/gpu
	@mkdir -p build
	timeout 480 $(BIN)/python -m pytest tests/gpu -q --basetemp build/gpu $(ARGS)
	@find build/gpu -name 'speed.jsonl' -exec cat {} +

format: install ## rewrite the code as ruff wants it
	$(BIN)/ruff format $(PACKAGES) tests docs
	$(BIN)/ruff check --fix $(PACKAGES) tests docs

# A lock is bare `name==version` lines, good for any index: no hosts, paths or local versions. cpu
# and gpu are for development; the images of infra/ are made from the others, whose versions are
# those of cpu and gpu. What
# is locked stays unless pyproject.toml no longer allows it (ARGS=--upgrade: all to the newest,
# ARGS="-P ray": one). PyPI's torch lists CUDA's libraries, which the CPU build does not need.
COMPILE = $(BIN)/uv pip compile pyproject.toml --python-version 3.11 --quiet \
  --no-header --no-annotate --no-emit-index-url --no-emit-find-links $(ARGS)
lock: install ## regenerate the locks from pyproject.toml (ARGS=--upgrade; LOCKS=another directory)
	@mkdir -p $(LOCKS)
	@for name in cpu gpu serving tracking job-cpu job-gpu; do \
	  scratch=$$(mktemp); trap 'rm -f "$$scratch"' EXIT; \
	  cp infra/requirements/$$name.lock "$$scratch" 2>/dev/null || true; \
	  extra=$${name#job-}; extras=(--extra $$extra); drop='^(cuda|nvidia)-|^triton=='; \
	  case $$extra in \
	    cpu) extras+=(--overrides infra/requirements/overrides-cpu.txt);; \
	    gpu) drop='^$$';; \
	  esac; \
	  case $$name in \
	    cpu|gpu) extras+=(--extra dev);; \
	    job-*) extras+=(-c $(LOCKS)/$$extra.lock);; \
	    *) extras+=(-c $(LOCKS)/cpu.lock);; \
	  esac; \
	  $(COMPILE) "$${extras[@]}" --output-file "$$scratch" >/dev/null; \
	  grep -vE "$$drop" "$$scratch" | sed -E 's/[+][a-zA-Z0-9.]+//' | LC_ALL=C sort >$(LOCKS)/$$name.lock.new; \
	  mv $(LOCKS)/$$name.lock.new $(LOCKS)/$$name.lock; rm -f "$$scratch"; \
	  echo "lock: $$(wc -l <$(LOCKS)/$$name.lock) packages in $(LOCKS)/$$name.lock"; \
	done

clean: ## remove caches and build products; keeps .venv and data
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find $(PACKAGES) tests -type d -name __pycache__ -prune -exec rm -rf {} +
