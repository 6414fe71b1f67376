# Everything a newcomer or CI types. Needs Python 3.11 (or 3.12) with venv, and make; sets up the rest.
.DEFAULT_GOAL := help
.PHONY: help venv demo serve train test test-slow fuzz check format pages bench deploy-test proto lock clean

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
DEMO_PORT ?= 8000
REPOSITORY ?= build/demo
MODEL ?= fashion
DATA ?= builtin:fashion
# Convolutions this small gain nothing from many threads, and lose from more threads than cores.
TEST_THREADS ?= 1
BUDGET ?= 600
# Downloads, images and the engine of `make deploy-test`: up to 20 GB, outside the repository.
DEPLOY_CACHE ?= $(HOME)/.cache/taskroute-deploy
DEPLOY_TESTS ?= tests/deploy tests/test_refresh_process.py
FAST := not slow and not gpu and not docker

help: ## list these commands
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

venv: .venv/installed ## make the virtual environment (every command below does so when needed)

.venv/installed: pyproject.toml requirements.lock $(wildcard model/native/*.?pp)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' || \
	  { echo "$(PYTHON) is not Python 3.11 or 3.12: name one with make PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[train,dev,grpc,otel]'
	touch $@

demo: venv ## train on the built-in data, serve, ask about unseen images (ONCE=1: then stop)
	$(BIN)/python deploy/demo.py --repository $(REPOSITORY) --port $(DEMO_PORT) $(if $(filter-out 0,$(ONCE)),--once)

train: venv ## train on DATA and publish to REPOSITORY under MODEL
	$(BIN)/python -m training train --data $(DATA) --repository $(REPOSITORY) --name $(MODEL)

serve: venv ## serve the latest MODEL of REPOSITORY
	$(BIN)/python -m service --repository $(REPOSITORY) --model $(MODEL) --port $(DEMO_PORT)

check: venv ## lint, format check, types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

test: check ## everything that CI runs
	OMP_NUM_THREADS=$(TEST_THREADS) $(BIN)/python -m pytest -m "$(FAST)"

test-slow: venv ## the tests that take minutes, a GPU or Docker
	OMP_NUM_THREADS=$(TEST_THREADS) $(BIN)/python -m pytest -m "not ($(FAST))"

fuzz: venv ## schemathesis against a server process, BUDGET seconds (600)
	$(BIN)/python -m tests.service.hardening.fuzz --budget $(BUDGET)

deploy-test: venv ## build, run and validate all of deployment for real; says what this machine lacks
	bash deploy/test/prepare.sh $(DEPLOY_CACHE)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[train,dev,deploy]'
	TASKROUTE_DEPLOY_CACHE=$(DEPLOY_CACHE) $(BIN)/python -m pytest $(DEPLOY_TESTS)

format: venv ## rewrite the sources as `check` wants them
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

pages: venv ## rewrite every page and file that is made from code or from committed results
	$(BIN)/python -m service.reference --write README.md
	$(BIN)/python -m benchmarks.pages
	$(BIN)/python -m deploy.generate

bench: venv ## measure; installs the extra `bench`
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[train,dev,bench]'
	$(BIN)/python -m benchmarks

proto: venv ## compile the gRPC messages; needs grpcio-tools
	$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. service/grpc/open_inference.proto

lock: ## resolve the newest versions that pyproject.toml allows into requirements.lock
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet --disable-pip-version-check '.[train,dev,remote,grpc,otel,bulk,ray]'
	{ sed -n '/^#/p' requirements.lock; build/lock/bin/python -m pip freeze --all --exclude pip \
	  --exclude taskroute | tr 'A-Z_' 'a-z-' | sort; } > build/requirements.lock
	mv build/requirements.lock requirements.lock

clean: ## remove the virtual environment and everything built
	rm -rf .venv build dist *.egg-info model/native/*.so .mypy_cache .pytest_cache .ruff_cache .hypothesis
