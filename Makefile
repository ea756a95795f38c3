# Everything a person or a machine does with this repository. `make` alone lists it.
#
# ARGS=...    goes to the command behind the target:  make test ARGS="tests/unit -k playlist"
# PYTHON=...  is the interpreter .venv is made with:  make test PYTHON=python3.13

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

ARGS ?=
export PYTHON ?=
# Without compiled files every start of the program takes three times as long.
unexport PYTHONDONTWRITEBYTECODE
BIN := .venv/bin
# Half of the time tests wait for sockets, databases and child processes, so more workers than cores pay.
TEST_WORKERS ?= 4
# The same rules for what lies beside backend/.
RUFF := --config pyproject.toml

.PHONY: help
help: ## Show this list
	@awk 'BEGIN { FS = ":.*## " } /^[a-z][a-z-]*:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: backend/.env environment-run ## Run the service with the settings in backend/.env
	@VODKEEP_ENV_FILE=backend/.env exec $(BIN)/vodkeep run $(ARGS)

backend/.env:
	@echo "There is no backend/.env yet: copy backend/.env.example there and fill in the channel and the Twitch keys." >&2
	@exit 2

.PHONY: demo
demo: environment-run ## See it work without any account: the real service against a pretend Twitch and YouTube
	@exec $(BIN)/python -m vodkeep_standin.demo $(ARGS)

.PHONY: test
test: environment ## Run all tests; ARGS="tests/unit -k playlist" picks some
	@tools/debian-packages chromium pgbouncer || true
	@cd backend && exec ../$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist worksteal $(ARGS)

.PHONY: check
check: environment ## Check format, lint, types and the direction of imports
	@cd backend && ../$(BIN)/ruff format $(RUFF) --check --quiet . ../tools ../bench && ../$(BIN)/ruff check $(RUFF) --quiet . ../tools ../bench
	@cd backend && ../$(BIN)/mypy --no-error-summary
	@cd backend && ../$(BIN)/lint-imports --no-logo

.PHONY: format
format: environment ## Format the code and mend what the linter can mend
	@cd backend && ../$(BIN)/ruff check $(RUFF) --fix-only --quiet . ../tools ../bench && ../$(BIN)/ruff format $(RUFF) . ../tools ../bench

.PHONY: docs
docs: environment ## Write the settings' reference again from their declarations
	@cd backend && ../$(BIN)/python -m vodkeep.settings.reference ../docs/configuration.md .env.example

.PHONY: ui
ui: ## Build the web pages from frontend/
	@if [ -f frontend/package.json ]; then cd frontend && npm ci --no-audit --no-fund && npm run build; \
	else echo "There is no web UI to build yet: the service brings its own plain status page."; fi

.PHONY: chaos
chaos: environment ## Kill, freeze, fill and cut everything for 10 minutes; ARGS="--seed 7 --minutes 2 --database sqlite"
	@cd backend/tests && PYTHONPATH=../src:. exec ../../$(BIN)/python -m support.chaos $(ARGS)

.PHONY: chaos-chat
chaos-chat: environment ## Kill a chat recorder again and again, with a minute without database; ARGS="--database postgresql"
	@cd backend/tests && PYTHONPATH=../src:. exec ../../$(BIN)/python -m support.chat_kills $(ARGS)

.PHONY: bench
bench: bench-demux bench-capture ## Run every measurement (bench/README.md says which there are)

.PHONY: bench-capture
bench-capture: environment ## Measure capture beside other programs; ARGS="--size 100M --runs 1" is a quick look
	@tools/debian-packages nginx libnginx-mod-http-lua aria2 curl || true
	@exec $(BIN)/python -m bench.capture $(ARGS)

.PHONY: bench-demux
bench-demux: environment ## Measure the transport stream reader beside PyAV's
	@exec $(BIN)/python -m bench.demux $(ARGS)

.PHONY: bench-floor
bench-floor: environment ## Measure what bounds a capture on this machine, step by step
	@exec $(BIN)/python -m bench.floor $(ARGS)

.PHONY: bench-memory
bench-memory: environment ## Measure what a capture takes as broadcasts get longer
	@exec $(BIN)/python -m bench.memory $(ARGS)

.PHONY: bench-chat-parse
bench-chat-parse: environment ## Measure the reader of chat lines beside irctokens
	@PYTHONPATH=.:backend/tests exec $(BIN)/python -m bench.chat_parse $(ARGS)

.PHONY: bench-chat-read
bench-chat-read: environment ## Measure windows, activity and search of chat; ARGS="--messages 10000000" takes its time
	@PYTHONPATH=.:backend/tests exec $(BIN)/python -m bench.chat_read $(ARGS)

.PHONY: bench-queue
bench-queue: environment ## Measure planning, /status and an idle service with 100,000 items and 1,000 channels
	@PYTHONPATH=.:backend/tests exec $(BIN)/python -m bench.large_archive $(ARGS)

.PHONY: bench-chat-ingest
bench-chat-ingest: environment ## Measure storing chat beside one INSERT per message; ARGS="--messages 50000 --runs 1"
	@PYTHONPATH=.:backend/tests exec $(BIN)/python -m bench.chat_ingest $(ARGS)

.PHONY: bench-chat-health
bench-chat-health: environment ## Measure /healthz while 5,000 messages of chat come at once
	@PYTHONPATH=.:backend/tests exec $(BIN)/python -m bench.chat_health $(ARGS)

.PHONY: docker-build
docker-build: ## Build the container image vodkeep:local
	docker build --file backend/Dockerfile --tag vodkeep:local .

.PHONY: lock
lock: environment ## Write the lock files again; ARGS=--upgrade takes the newest versions
	@tools/lock $(ARGS)

.PHONY: clean
clean: ## Remove the environment, caches and the demo's files; archives and settings stay
	rm -rf .venv .demo backend/.pytest_cache backend/.mypy_cache backend/.ruff_cache backend/.hypothesis \
	  backend/.import_linter_cache frontend/node_modules
	find backend tools -type d -name __pycache__ -prune -exec rm -rf {} +

.PHONY: environment environment-run
environment:
	@tools/bootstrap dev
environment-run:
	@tools/bootstrap run
