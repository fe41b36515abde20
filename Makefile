# Two commands matter: `make demo` and `make test`. `make help` lists the rest.
SHELL := /bin/bash
PYTHON ?= python3
CLUSTER ?= local
LSTOPS_HOME ?= $(CURDIR)/.lstops-demo$(if $(filter slurm,$(CLUSTER)),-slurm)
SCIENCE_VENV := $(CURDIR)/.venv-lstchain
export LSTOPS_HOME
export LSTOPS_VENV_SCIENCE := $(SCIENCE_VENV)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export OMP_NUM_THREADS := 1

.PHONY: help setup demo campaign demo-stop test lint test-unit test-golden test-science test-dags test-cluster test-e2e \
        test-production test-system-deps bench lock clean
.DELETE_ON_ERROR:

help:  ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## */  make \1\t/' | expand -t 24

# -- environments ------------------------------------------------------------------------------------------------
# The stamp is written last, so an interrupted installation is taken up again.
setup: .venv/.ready .venv-lstchain/.ready  ## both environments, from the lock files

.venv/.ready: requirements/airflow.lock pyproject.toml
	@scripts/make-environment .venv requirements/airflow.lock $(PYTHON)

.venv-lstchain/.ready: requirements/lstchain.lock requirements/accelerator.lock pyproject.toml
	@scripts/make-environment .venv-lstchain requirements/lstchain.lock $(PYTHON) requirements/accelerator.lock

lock:  ## pin the versions anew from requirements/*.in
	scripts/lock-requirements $(PYTHON)

# -- the main job ------------------------------------------------------------------------------------------------
demo:  ## one synthetic night from DL1 to published DL3 (CLUSTER=slurm: over SSH and SLURM)
	@$(MAKE) --no-print-directory -j2 setup
	@.venv/bin/python -m lstops.demo run --cluster $(CLUSTER)

campaign: setup  ## six synthetic nights through all DAGs, compared with the truth (NIGHTS=2: the first two)
	@LSTOPS_HOME=$(CURDIR)/.lstops-demo-campaign .venv/bin/python -m lstops.demo campaign $(if $(NIGHTS),--nights $(NIGHTS))

demo-stop:  ## stop what `make demo` left running
	@.venv/bin/python -m lstops.demo stop

# -- tests: unit first, the longest last -------------------------------------------------------------------------
# The science tests compute, those of Airflow and SLURM mostly wait: side by side they take two thirds of the time.
test: setup  ## everything
	@$(MAKE) --no-print-directory lint test-unit
	@$(MAKE) --no-print-directory -j2 --output-sync=target test-science test-dags test-cluster test-golden
	@$(MAKE) --no-print-directory test-e2e

lint: setup  ## ruff and mypy
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

test-unit: setup  ## neither Airflow, SLURM nor lstchain; seconds
	.venv/bin/python -m pytest tests/unit

test-golden: setup  ## real data (needs ../shared, else skipped)
	.venv/bin/python -m pytest tests/golden

test-science: setup  ## real lstchain
	.venv-lstchain/bin/python -m pytest tests/science

test-dags: setup  ## real Airflow and PostgreSQL
	.venv/bin/python -m pytest tests/dags

test-cluster: setup  ## real SLURM and sshd (root on Debian, after make test-system-deps)
	.venv/bin/python -m pytest tests/cluster

test-e2e: setup  ## the demo, locally and over SLURM, read by a stranger and looked at in a browser
	.venv/bin/python -m pytest tests/e2e

test-production: setup  ## by request: a production of two lines on SLURM, killed everywhere (WHOLE=1: two levels)
	LSTOPS_TEST_PRODUCTION=1 $(if $(WHOLE),LSTOPS_TEST_WHOLE_PRODUCTION=1) \
	.venv/bin/python -m pytest tests/e2e/test_production_slurm.py

test-system-deps:  ## as root on Debian: SLURM, sshd, MariaDB and Chromium for the tests
	scripts/install-system-deps

bench: setup  ## measure; results go to docs/benchmarks.md by hand, with machine, date and versions
	.venv/bin/python -m lstops.demo.bench_trace
	.venv/bin/python -m lstops.demo bench
	.venv/bin/python -m lstops.embedded.cluster_bench
	.venv/bin/python -m lstops.embedded.stages_bench
	@if [ -d "$(NIGHTS)" ]; then .venv/bin/python -m lstops.quality.bench --nights "$(NIGHTS)"; \
	 else echo "run selection: not measured; name a directory of night-wise data checks: make bench NIGHTS=DIR"; fi
	.venv/bin/python -m lstops.production.bench $(if $(CONFIG),--config "$(CONFIG)")
	.venv-lstchain/bin/python -m lstops.science.worker_bench
	.venv-lstchain/bin/python -m lstops.science.night_bench
	.venv-lstchain/bin/python -m lstops.science.trainer_bench

clean:  ## remove the environments, the demo and the campaign (not the lock files)
	-@test -x .venv/bin/python && .venv/bin/python -m lstops.demo stop
	rm -rf .venv .venv-lstchain .lstops-demo .lstops-demo-slurm .lstops-demo-campaign
