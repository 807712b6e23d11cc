# Every target works as the first command on a fresh clone: it makes .venv when that is missing or out of
# date. Stamp files live inside .venv, so that removing the folder starts over.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
TEST_ARGS ?=
BENCH_ARGS ?=
SEEDS ?= 300
SIMULATE_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test simulate coverage lint format bench bench-dask clean

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.installed ## Ten workers share objects while the leader is killed
	$(BIN)/raftcoord demo

test: $(VENV)/.installed ## Run all tests (TEST_ARGS="tests/unit -k frames" selects)
	$(BIN)/python -m pytest $(TEST_ARGS)

simulate: $(VENV)/.installed ## Whole clusters under fresh seeds, and under all that ever failed (SEEDS=1000 runs more)
	$(BIN)/raftcoord-sim --seeds $(SEEDS) --also tests/simulation/seeds.txt $(SIMULATE_ARGS)

coverage: $(VENV)/.installed ## What of consensus and machine the simulation reaches (SEEDS=300)
	$(BIN)/coverage run --branch --include='raftcoord/consensus/*,raftcoord/machine/*' \
		$(BIN)/raftcoord-sim --seeds $(SEEDS) --first-seed 1 --jobs 1
	$(BIN)/coverage report --show-missing --skip-empty

lint: $(VENV)/.installed ## Check format, lint rules and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.installed ## Rewrite the sources in the project's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.installed-bench ## Measure, side by side with etcd if installed: apt-get install etcd-server (BENCH_ARGS="sets" selects)
	$(BIN)/python -m benchmarks $(BENCH_ARGS)

bench-dask: $(VENV)/.installed-bench ## Measure raftcoord.dask side by side with Dask's own objects (BENCH_ARGS="calls" selects)
	$(BIN)/python -m benchmarks.dask $(BENCH_ARGS)

clean: ## Remove the environment and all caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(PYTHON) is not Python 3.11 or later; choose one: make PYTHON=python3.12 …" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' \
		|| { echo "$(PYTHON) cannot make environments. On Debian: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.created pyproject.toml
	$(PIP) install --editable ".[dev]"
	@touch $@

$(VENV)/.installed-bench: $(VENV)/.installed
	$(PIP) install --editable ".[bench]"
	@touch $@
