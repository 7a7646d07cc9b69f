# `make` lists the targets. Everything a target needs is set up on first use, in .venv.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
SLUICE := $(VENV)/bin/sluice
NATIVE := core/_native.abi3.so
NATIVE_SOURCES := $(wildcard core/native/src/*.rs) $(addprefix core/native/,Cargo.toml Cargo.lock .cargo/config.toml)

TOOLS := ops/tools/bin/ready
TOOLS_SOURCES := $(addprefix ops/tools/,build.sh go.mod go.sum compose/main.go)

CLIENT := tests/clients/typescript

.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/ready $(SLUICE) $(NATIVE) $(TOOLS) $(CLIENT)/node_modules/ready ## install what is locked, build the native module and checkers (other targets do it themselves)

# $(call install,LOCK FILE,MiB on disk,whose)
define install
  $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Sluice needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Give another one: make PYTHON=python3.12 …"; exit 1; }; \
  free=$$(df -Pm . | awk 'NR == 2 {print $$4}'); \
  if [ "$$free" -lt $(2) ]; then echo "the disk of this folder has $$free MiB free, and the dependencies need $(2) MiB: make room first"; exit 1; fi; \
  $(RUN) -c 'import pip' 2> /dev/null || { echo "making the virtual environment in $(VENV) …"; $(PYTHON) -m venv --clear $(VENV); } && \
  echo "installing the locked dependencies $(3), about $(2) MiB on disk (a minute) …" && \
  $(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes -r $(1)
endef

# What `make up` and `make demo` need; a part of the other one.
$(VENV)/ready-local: requirements-local.lock
	@[ $(VENV)/ready -nt requirements-dev.lock ] || { $(call install,requirements-local.lock,240,of a local stack); }
	@touch $@

$(VENV)/ready: requirements-dev.lock
	@$(call install,requirements-dev.lock,810,of tests and checks)
	@touch $@ $(VENV)/ready-local

# A script that runs the sources of this checkout: nothing is built or installed.
$(SLUICE): ops/sluice $(VENV)/ready-local
	@cp ops/sluice $@ && chmod +x $@ && touch $@

# Never fails: without it the collector and the gateway read by Python alone, and say so.
$(NATIVE): $(NATIVE_SOURCES)
	@if ! command -v cargo > /dev/null; then rm -f $@; echo "no Rust toolchain: Python reads alone"; \
	elif echo "building the native module (a minute) …"; (cd core/native && cargo build --release --locked --quiet); then \
	  cp core/native/target/release/lib_native.so $@.new && mv $@.new $@; \
	else rm -f $@; echo "the native module was not built: Python reads alone"; fi

# Never fails: without it the tests of compose files and Kubernetes manifests are skipped, and counted.
$(TOOLS): $(TOOLS_SOURCES)
	@if ! command -v go > /dev/null; then echo "no Go toolchain: compose files and manifests are not checked"; \
	elif echo "building the checkers of compose files and manifests (a minute) …"; ! sh ops/tools/build.sh; then \
	  rm -f $@; echo "the checkers were not built: compose files and manifests are not checked"; fi

# Never fails: without it the test of a TypeScript client is skipped, and counted.
$(CLIENT)/node_modules/ready: $(CLIENT)/package-lock.json
	@if ! command -v npm > /dev/null; then echo "no npm: no TypeScript client is generated from the reporter's document"; \
	elif echo "installing the TypeScript compiler, 45 MB on disk …"; \
	  (cd $(CLIENT) && npm ci --silent --no-audit --no-fund --ignore-scripts); then touch $@; \
	else rm -f $@; echo "the TypeScript compiler was not installed: its client is not generated"; fi

up: $(SLUICE) $(NATIVE) ## run everything until Ctrl-C; PUBLISHER=0 leaves the publisher out, VALUES=plausible posts plausible events, MONITORING=1 starts Prometheus
	@exec $(SLUICE) up $(if $(VALUES),--values $(VALUES))

demo: $(SLUICE) $(NATIVE) ## run everything under the publisher's load for DEMO_SECONDS (30) and check that nothing is lost; VALUES=plausible
	@exec $(SLUICE) demo $(if $(VALUES),--values $(VALUES))

TEST_PROCESSES ?= 3
test: $(VENV)/ready $(SLUICE) $(NATIVE) $(TOOLS) $(CLIENT)/node_modules/ready lint ## lint, check types and layers, run all tests
	@$(RUN) -m pytest --numprocesses=$(TEST_PROCESSES) --dist=loadfile --no-loadscope-reorder

lint: $(VENV)/ready ## ruff, mypy, the layers and clippy
	@$(RUN) -m ruff format --check --quiet .
	@$(RUN) -m ruff check --quiet .
	@$(RUN) -m mypy
	@$(VENV)/bin/lint-imports
	@if cargo clippy --version > /dev/null 2>&1; then \
	  cd core/native && cargo fmt --check && cargo clippy --locked --quiet --all-targets -- -D warnings; \
	else echo "no Rust toolchain: the native module is not linted"; fi

faults: $(VENV)/ready $(SLUICE) $(NATIVE) ## break every part under load and judge what is stored (14 minutes; SHORT=1: 3); figures go to .sluice/faults.json
	@SLUICE_FAULTS=$(if $(SHORT),short,long) SLUICE_FAULTS_REPORT=.sluice/faults.json \
	  $(RUN) -m pytest --quiet --numprocesses=2 --dist=loadfile tests/faults

cluster: $(VENV)/ready $(SLUICE) $(NATIVE) ## break hosts of a cluster and judge what is stored (needs root); figures go to .sluice/cluster.json
	@SLUICE_FAULTS=long SLUICE_FAULTS_REPORT=.sluice/cluster.json $(RUN) -m pytest --quiet tests/cluster

production-check: $(VENV)/ready $(SLUICE) $(NATIVE) $(TOOLS) ## compose, manifests, metrics, alerts, dashboards, runbooks, backup (SHORT=1: files only)
	@exec $(RUN) -m tests.production

IMAGE_VERSION ?= dev
# Base images from elsewhere: make images PYTHON_IMAGE=…@sha256:… RUST_IMAGE=…; BUILD_FLAGS are docker's own
images: ## build both images, sluice:IMAGE_VERSION (dev) and sluice-stand-in; PYTHON_IMAGE, RUST_IMAGE: other bases
	@for target in services:sluice stand-in:sluice-stand-in; do \
	  docker build --quiet $(BUILD_FLAGS) $(if $(PYTHON_IMAGE),--build-arg PYTHON_IMAGE=$(PYTHON_IMAGE)) \
	    $(if $(RUST_IMAGE),--build-arg RUST_IMAGE=$(RUST_IMAGE)) --build-arg VERSION=$(IMAGE_VERSION) \
	    --target $${target%%:*} --tag $${target##*:}:$(IMAGE_VERSION) . || exit; done

compose-check: $(VENV)/ready $(TOOLS) ## build the images and run the compose files under a container engine (SHORT=1: CI's part); as root on Debian it brings one
	@exec $(RUN) -m tests.engine $(if $(SHORT),--short) $(OPTIONS)

PREVIEW := ops/grafana/preview
PICTURES ?= docs/dashboards
pictures: $(PREVIEW)/node_modules/ready ## draw the dashboards into PICTURES (docs/dashboards), beside make up MONITORING=1; needs node 20 and chromium
	@exec node $(PREVIEW)/preview.mjs --pictures $(PICTURES) $(if $(MINUTES),--minutes $(MINUTES)) $(if $(THEME),--theme $(THEME))

$(PREVIEW)/node_modules/ready: $(PREVIEW)/package-lock.json
	@echo "installing Grafana's components, about 660 MB on disk (a minute) …"
	@cd $(PREVIEW) && npm ci --silent --no-audit --no-fund --ignore-scripts
	@touch $@

SECONDS ?= 600
fuzz: $(VENV)/ready $(NATIVE) ## hold both parsers to each other for SECONDS (600): on random messages, and where coverage leads
	@$(RUN) -m tests.fuzz.differential --seconds $$(($(SECONDS) / 2))
	@$(RUN) -m tests.fuzz.guided -max_total_time=$$(($(SECONDS) / 2))

bench: $(VENV)/ready $(NATIVE) ## run all benchmarks (31 minutes) and render bench/results/REPORT.md; SHORT=1: a moment of each
	@exec $(RUN) -m bench $(if $(SHORT),--short)

LOAD_USERS ?= 21
LOAD_SECONDS ?= 30
load: $(VENV)/ready $(NATIVE) ## post with locust at a gateway that runs: LOAD_USERS, LOAD_SECONDS, GATEWAY=http://…
	@exec $(VENV)/bin/locust -f bench/locustfile.py --headless --only-summary \
	  --users $(LOAD_USERS) --spawn-rate $(LOAD_USERS) --run-time $(LOAD_SECONDS)s $(if $(GATEWAY),--host $(GATEWAY))

SIZES ?= 1M,10M,50M
bench-reports: $(VENV)/ready $(NATIVE) ## reports at SIZES stored events (1M,10M,50M), beside plain GROUP BY and while storing
	@exec $(RUN) -m bench.reports --sizes $(SIZES)

LOCK := $(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
  --no-emit-index-url --no-emit-find-links pyproject.toml
lock: $(VENV)/ready ## write the lock files anew from pyproject.toml
	@$(LOCK) -o requirements.lock
	@$(LOCK) --extra local -c requirements.lock -o requirements-local.lock
	@$(LOCK) --extra local --extra dev -c requirements-local.lock -o requirements-dev.lock

reset-data: $(SLUICE) ## delete the local stack's data (.sluice); fails while the stack runs
	@$(SLUICE) reset-data

BUILT := core/_native*.so core/native/target ops/tools/bin build *.egg-info .mypy_cache .ruff_cache .pytest_cache \
  .hypothesis .import_linter_cache .benchmarks
clean: ## delete what was built: the native module, checkers and caches; data (make reset-data) and .venv stay
	@rm -rf $(BUILT)
	@find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

.PHONY: help setup up demo test lint faults cluster production-check images compose-check pictures fuzz bench load bench-reports lock reset-data clean
