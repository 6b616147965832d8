# `make run` and `make test` do all their own set-up: a virtual environment, and the dependencies
# that the lock files name, by hash. Stamps in .venv make the second call start at once.

PYTHON ?= python3
UV ?= uv
ARGS ?=
JOBS ?= 2

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
VENV_STAMP := $(VENV)/.made
RUN_STAMP := $(VENV)/.run
DEV_STAMP := $(VENV)/.dev
CLIENTS := tests/clients
CLIENTS_VENV := .venv-clients
CLIENTS_STAMP := $(CLIENTS_VENV)/.made
NODE_STAMP := $(CLIENTS)/node_modules/.made
LOCK := $(UV) pip compile pyproject.toml --quiet --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"

.DELETE_ON_ERROR:
.PHONY: help run test check fix clients bench bench-ledger bench-sustained bench-scopes streams slow-sockets overshoot soak simulate faults screenshots lock clean

help:
	@echo 'make run    start everything on http://127.0.0.1:8080 (ARGS="--port 9000" for options)'
	@echo 'make test   run the test suite, in two processes (ARGS="-k caps" for options, JOBS=0 for one)'
	@echo 'make check  formatting, lint, types and tests: the whole gate'
	@echo 'make fix    mend what the formatter and the linter can'
	@echo 'make clients  install the clients that the suite runs (openai, anthropic, LangChain, ...)'
	@echo 'make bench  measure against a bare relay (bench-ledger: both databases, bench-scopes: caps)'
	@echo 'make bench-sustained  a minute and more of full streams into the ledger, on both databases'
	@echo 'make streams  thousands of open streams, through one process and two'
	@echo 'make slow-sockets  what thousands of clients that never finish cost the others'
	@echo 'make overshoot  by how much streams at the edge of a cap pass it'
	@echo 'make soak   half an hour of mixed load: memory and descriptors must be flat'
	@echo 'make simulate  settle thousands of made-up worlds over deaths (ARGS="--seeds 5000")'
	@echo 'make faults kill and stall a running installation, then verify it (ARGS="--kills 300")'
	@echo 'make screenshots  pictures of the dashboard for the docs (ARGS="--seconds 60")'
	@echo 'make lock   resolve the dependencies again (needs uv; ARGS="--upgrade" for newer ones)'
	@echo 'make clean  remove what these commands made'

run: $(RUN_STAMP)
	@$(BIN)/weir serve $(ARGS)

test: $(DEV_STAMP) clients
	@$(BIN)/python -m pytest -n $(JOBS) $(ARGS)

check: $(DEV_STAMP) clients
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n $(JOBS) $(ARGS)

# The clients that people use, with pins of their own. Those for Node are tested where npm works.
clients: $(CLIENTS_STAMP)
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory $(NODE_STAMP) \
		|| echo 'npm failed: the clients for Node are not tested'; fi

fix: $(DEV_STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(DEV_STAMP)
	@$(BIN)/python -m benchmarks $(ARGS)

bench-ledger: $(DEV_STAMP)
	@$(BIN)/python -m benchmarks.ledger $(ARGS)

bench-sustained: $(DEV_STAMP)
	@$(BIN)/python -m benchmarks.ledger_sustained $(ARGS)

bench-scopes: $(DEV_STAMP)
	@$(BIN)/python -m benchmarks.scopes $(ARGS)

streams: $(DEV_STAMP)
	@$(BIN)/python -m benchmarks.streams $(ARGS)

slow-sockets: $(DEV_STAMP)
	@$(BIN)/python -m benchmarks.slow_sockets $(ARGS)

overshoot: $(DEV_STAMP)
	@$(BIN)/python -m benchmarks.overshoot $(ARGS)

soak: $(DEV_STAMP)
	@$(BIN)/python -m benchmarks.soak $(ARGS)

simulate: $(DEV_STAMP)
	@$(BIN)/python -m simulation $(ARGS)

faults: $(DEV_STAMP)
	@$(BIN)/python -m faults run $(ARGS)

screenshots: $(DEV_STAMP)
	@$(BIN)/python -m benchmarks.screenshots $(ARGS)

# The development lock is held to the versions of the runtime lock: one environment serves both.
lock:
	$(LOCK) --extra postgres --extra stripe --group build --output-file requirements.lock $(ARGS)
	$(LOCK) --extra postgres --extra stripe --group dev --constraint requirements.lock --output-file requirements-dev.lock $(ARGS)
	cd $(CLIENTS) && $(UV) pip compile requirements.in --quiet --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-emit-find-links \
		--custom-compile-command "make lock" --output-file requirements.lock $(ARGS)

clean:
	rm -rf $(VENV) $(CLIENTS_VENV) $(CLIENTS)/node_modules dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find proxy routing metering tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV_STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo 'Python 3.11 or newer is needed: make PYTHON=python3.12 ...' >&2; exit 1; }
	@echo 'Making a virtual environment in $(VENV) ...'
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(RUN_STAMP): $(VENV_STAMP) requirements.lock pyproject.toml
	@echo 'Installing the locked dependencies ...'
	@$(PIP) install --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(DEV_STAMP): $(RUN_STAMP) requirements-dev.lock
	@echo 'Installing what the tests need ...'
	@$(PIP) install --require-hashes -r requirements-dev.lock
	@touch $@

$(CLIENTS_STAMP): $(CLIENTS)/requirements.lock
	@echo 'Installing the clients that the tests run ...'
	@$(PYTHON) -m venv $(CLIENTS_VENV)
	@$(CLIENTS_VENV)/bin/python -m pip --disable-pip-version-check --quiet install \
		--require-hashes -r $(CLIENTS)/requirements.lock
	@touch $@

$(NODE_STAMP): $(CLIENTS)/package-lock.json
	@cd $(CLIENTS) && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@
