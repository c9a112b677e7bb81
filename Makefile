# make help lists the targets. PYTHON chooses the interpreter of a new .venv;
# for another one beside it: make test VENV=.venv312 PYTHON=python3.12
PYTHON ?= python3
VENV ?= .venv
WORKDIR ?= runs/quickstart
BIN := $(VENV)/bin
PARITY := .venv-parity

.DEFAULT_GOAL := help
.PHONY: help quickstart test check lint format parity soak clean

help:
	@echo 'make quickstart  train micro on real digits (about a minute on 2 cores)'
	@echo 'make test        lint, then the test suite (make check is the same)'
	@echo 'make lint        ruff (lint and format) and types'
	@echo 'make format      format the code'
	@echo 'make soak        the tests that take long, some minutes'
	@echo 'make parity      against timm, torchvision, Keras and the runtimes of'
	@echo '                 exports: hours, 10 GB; goes on where it stopped'
	@echo 'make clean       remove $(VENV) and caches; runs/ stays'

# Huge pages for malloc, as effnet_jax/environment.py has them: with them there
# from the start, train.py need not start itself again.
ifneq ($(EFFNET_JAX_TUNE),0)
TUNED := GLIBC_TUNABLES="$${GLIBC_TUNABLES-glibc.malloc.hugetlb=1:$\
  glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=100000000000:$\
  glibc.malloc.arena_max=1:glibc.malloc.top_pad=268435456}"
endif

quickstart: $(VENV)/.quickstart
	@$(TUNED) $(BIN)/python train.py --config=configs/quickstart.py --workdir=$(WORKDIR)

check: test

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

soak: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist loadfile -m soak

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyrefly check --summary=none --python-interpreter-path=$(BIN)/python

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# All run, even if one finds a difference.
parity: $(PARITY)/.installed
	@status=0; for script in parity predictors exports; do \
	  $(PARITY)/bin/python benchmarks/$$script.py || status=1; done; \
	  $(PARITY)/bin/python benchmarks/tables.py; exit $$status

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache *.egg-info

# A stamp a set of packages: installed again when a list changes.
$(VENV)/.%: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo 'Python 3.11 or newer is needed: make $(MAKECMDGOALS)' \
	    'PYTHON=/path/to/python3.12'; exit 1; }
	@test -x $(BIN)/pip || { echo 'Making $(VENV) ...'; \
	  $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }; }
	@echo 'Installing the packages (a minute or two) ...'
	@$(BIN)/python -m pip install --quiet --editable '.[$*]'
	@touch $@

# The peers live apart: two frameworks that no user of this package needs.
$(PARITY)/.installed: benchmarks/requirements-parity.txt requirements.txt
	@test -x $(PARITY)/bin/pip || { echo 'Making $(PARITY) ...'; \
	  $(PYTHON) -m venv $(PARITY) || { rm -rf $(PARITY); exit 1; }; }
	@echo 'Installing the peers (some minutes, up to 9 GB) ...'
	@$(PARITY)/bin/python -m pip install --quiet \
	  --requirement benchmarks/requirements-parity.txt
	@touch $@
