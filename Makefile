# The commands of the project. `make demo` and `make test` need only Python 3.11+, make and a
# package index; everything else they need they make themselves, under .venv and .tools.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: help setup demo test check format servers images compose-demo bench faults fleet golden clean

help:               ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("mesh needs Python 3.11 or later; this is %s (make PYTHON=python3.12 ...)" % sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

setup: $(STAMP)     ## Make .venv with mesh in it

demo: setup         ## Show the mesh at work: a shop of three services on this machine
	@$(BIN)/mesh demo

servers: setup      ## Put real etcd, Consul and Prometheus into .tools/bin (no root needed)
	@$(BIN)/python tools/servers.py

images: setup       ## The Docker images of the container tests and the Compose demo, from nothing
	@$(BIN)/python -m tools.images

compose-demo: images ## Many hosts on one Docker engine: start the Compose demo, break each part of it
	@DOCKER_CONFIG=$(CURDIR)/.tools/docker compose/tour --local

test: setup         ## Every test, with the real Envoy, etcd, Consul and Prometheus
	@$(BIN)/python tools/servers.py || { test "$$CI" != true || exit 1; }
	@$(BIN)/python -m tools.images || { test "$$CI" != true || exit 1; }
	$(BIN)/pytest

check: setup        ## Format, lint, types, import contracts, unit and golden tests: under a minute
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/pytest -q --numprocesses 2 tests/unit tests/golden

format: setup       ## Format the code and mend what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

golden: setup       ## Rewrite the golden files from today's compiler; read the diff before committing
	$(BIN)/pytest -q tests/golden --update-golden

bench: setup        ## Benchmarks; one by NAME=...
	$(BIN)/python -m tests.benchmarks $(NAME)

faults: setup       ## Break each part of a mesh under load; writes docs/reliability.md; one by NAME=...
	$(BIN)/python -m tests.faults $(NAME)

fleet: setup        ## 10 to 200 real agents on etcd and Consul; writes docs/fleet.md
	$(BIN)/python -m tests.fleet $(NAME)

clean:              ## Remove what the commands above made
	rm -rf $(VENV) .tools .mypy_cache .ruff_cache .pytest_cache .hypothesis
