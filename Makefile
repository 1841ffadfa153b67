# The only commands a newcomer needs. Each sets up what it needs, says what it does, and can be interrupted and run again.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

PY := .venv/bin/python
BOOT ?= $(if $(PYTHON),$(PYTHON),python3)
CLUSTER := $(BOOT) -m tests.e2e.cluster
NODES ?= 1
PORT ?= 8080
ARGS ?= get pinndeployments,pods --all-namespaces
PYTEST_ARGS ?=

.PHONY: help demo test lint docs unit test-gpu test-full e2e score serve bench cluster-up cluster-down kubectl generate lock venv clean

help: ## Show this help
	@printf 'pinn-operator: serve physics-informed neural networks on Kubernetes\n\n'
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /  make \1\t/' | expand -t 22
	@printf '\nFirst time? `make serve` prices an option on this machine in a minute; `make demo` does it on a cluster.\n'

demo: venv ## Cluster, images, operator, a sample priced, a new version rolled out under load
	@$(PY) -m hack.demo

test: lint docs unit e2e ## Everything CI runs: lint, documents, unit tests, end-to-end tests on a real cluster

lint: venv ## Formatting, types, import rules, generated files, workflows
	@hack/lint

docs: ## The documents as a site in build/site; a broken link or a page in no list fails
	@hack/venv .venv-docs docs
	@echo "[docs] build/site" >&2
	@NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --quiet

unit: venv ## Unit tests, one process a core (PYTEST_ARGS='-n0 -k name' for one by one)
	@$(PY) -m pytest -n auto --dist worksteal $(PYTEST_ARGS)

test-gpu: ## Unit tests that need a GPU, on a machine that has one (no part of make test)
	@hack/test_gpu $(PYTEST_ARGS)

test-full: venv ## All tests there are, an hour or more (SHARD=1/3 runs a third, RESUME=1 leaves out what has passed)
	@$(PY) -m hack.full

e2e: venv ## End-to-end tests on a kind cluster of their own (KEEP=1 leaves it up, K=name runs one)
	@$(PY) -m hack.e2e

score: venv ## kube-score on the manifests and the chart; docs/reference/manifests.md explains what it is not asked
	@$(PY) -m hack.score

serve: ## One model server on this machine, without a cluster (PORT=8080)
	@hack/serve --port $(PORT)

bench: venv ## Measure what docs/ and benchmarks/ state, and say what moved (NAMES='server peers', BENCH_AGAINST=v0.1.0)
	@$(PY) -m benchmarks $(NAMES)

cluster-up: ## Only the cluster (NODES=1)
	@$(CLUSTER) up --nodes $(NODES)

cluster-down: ## Stop the cluster
	@$(CLUSTER) down

kubectl: ## kubectl on that cluster, e.g. make kubectl ARGS='get pods -A'
	@$(CLUSTER) kubectl $(ARGS)

generate: venv ## Regenerate crds/, docs/reference, alerts and dashboards from their sources
	@$(PY) -m pinn_operator.api.generate
	@$(PY) -m hack.monitoring
	@$(PY) -m hack.reference

lock: venv ## Resolve requirements/*.txt anew from pyproject.toml
	@PATH="$(CURDIR)/.venv/bin:$$PATH" requirements/lock.sh

venv:
	@hack/venv .venv dev --project

clean: ## Remove clusters and environments (CACHES=1: what was built and downloaded for them too)
	@$(CLUSTER) down --name pinn-e2e
	@$(CLUSTER) down $(if $(CACHES),--caches)
	@rm -rf .venv .venv-serve .venv-docs build/site .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -prune -exec rm -rf {} +
