# Everything is made in .venv, target and .build: nothing needs to be installed or
# activated before. What a step has done is noted in a stamp file, so that it is done again
# only when something that it depends on has changed.

# The interpreter that .venv is made with: `make test PYTHON=python3.13`.
PYTHON ?= python3
# Further arguments for what a verb runs: `make upstream ARGS=flask`.
ARGS ?=
# How long `make soak` takes.
SOAK_SECONDS ?= 300

VENV := .venv
BIN := $(VENV)/bin
TARGET := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)
# In continuous integration a lock file that is out of date is an error.
LOCKED := $(if $(CI),--locked)

CREATED := $(VENV)/created.stamp
BUILD_TOOLS := $(VENV)/build-tools.stamp
CHECK_TOOLS := $(VENV)/check-tools.stamp
TEST_TOOLS := $(VENV)/test-tools.stamp
DEMO_NEEDS := $(VENV)/demo-needs.stamp
SMOKE_NEEDS := $(VENV)/smoke-needs.stamp
RELEASE := $(VENV)/release-extension.stamp
DEBUG := $(VENV)/debug-extension.stamp

# The checks are the same with either build, so they take the one that is there.
EXTENSION := $(if $(wildcard $(DEBUG)),$(DEBUG),$(RELEASE))
EXTENSION_SOURCES := Cargo.toml Cargo.lock pyproject.toml $(wildcard crates/*/Cargo.toml) \
	$(shell find crates/*/src -name '*.rs')

PYTHON_CODE := src tests examples benchmarks
# The crates that know no Python. The extension is tested from Python.
PURE_CRATES := --workspace --exclude carboy-python
LOAD_GENERATOR := --manifest-path benchmarks/load/Cargo.toml

PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
say = @echo "==> $(1)"

# One interpreter for every build, so that no step throws away what another has compiled;
# and nothing of an environment that happens to be active.
export PYO3_PYTHON := $(abspath $(BIN)/python)
export VIRTUAL_ENV := $(abspath $(VENV))
unexport CONDA_PREFIX PIP_PREFIX PIP_TARGET PIP_USER PYTHONHOME PYTHONPATH

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# The steps share one virtual environment; each uses all processors by itself.
.NOTPARALLEL:
.PHONY: help dev build check format test test-all soak upstream conformance smokes demo bench bench-client clean

help: ## Show this list
	@echo "make <verb>, from a clean clone, in any order:"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

dev: $(DEBUG) $(TEST_TOOLS) $(CHECK_TOOLS) $(DEMO_NEEDS) ## Make .venv with a debug build, to work on carboy
	$(call say,Ready: $(BIN)/carboy and $(BIN)/pytest)

build: $(RELEASE) ## Make .venv with a release build
	$(call say,Ready: $(BIN)/carboy)

check: $(CHECK_TOOLS) $(TEST_TOOLS) $(EXTENSION) ## Formatting, lints, types, room rules
	$(call say,Formatting of Rust)
	@cargo fmt --all --check
	@cargo fmt $(LOAD_GENERATOR) --check
	$(call say,Lints of Rust)
	@cargo clippy --quiet $(LOCKED) --workspace --all-targets -- --deny warnings
	@cargo clippy --quiet $(LOCKED) $(LOAD_GENERATOR) --target-dir .build/benchmarks/target \
		--all-targets -- --deny warnings
	$(call say,Formatting and lints of Python)
	@$(BIN)/ruff format --quiet --check $(PYTHON_CODE)
	@$(BIN)/ruff check --quiet $(PYTHON_CODE)
	$(call say,Types)
	@$(BIN)/mypy
	@$(BIN)/python -m mypy.stubtest carboy._carboy carboy._carboy_event_loop carboy._carboy_promises
	@$(BIN)/python -m pytest --quiet tests/promise/test_typing.py
	$(call say,Room rules and public names)
	@$(BIN)/python -m pytest --quiet tests/test_tidy.py tests/test_exports.py

format: $(CHECK_TOOLS) ## Format everything, and fix the lints that can be fixed
	@cargo fmt --all
	@cargo fmt $(LOAD_GENERATOR)
	@$(BIN)/ruff check --quiet --fix $(PYTHON_CODE)
	@$(BIN)/ruff format --quiet $(PYTHON_CODE)

test: $(RELEASE) $(TEST_TOOLS) $(DEMO_NEEDS) ## Build, and run every test that is not slow
	$(call say,Tests of the crates that know no Python)
	@cargo test --quiet $(LOCKED) $(PURE_CRATES)
	$(call say,Tests of the package)
	@$(BIN)/python -m pytest -m "not slow" $(ARGS)

test-all: $(RELEASE) $(TEST_TOOLS) $(DEMO_NEEDS) ## Build, and run every test
	$(call say,Tests of the crates that know no Python)
	@cargo test --quiet $(LOCKED) $(PURE_CRATES)
	$(call say,Tests of the package with the slow ones)
	@$(BIN)/python -m pytest $(ARGS)

soak: $(RELEASE) $(TEST_TOOLS) ## Mixed work on the event loop: five minutes, or SOAK_SECONDS=60
	$(call say,Mixed work for $(SOAK_SECONDS) s)
	@SOAK_SECONDS=$(SOAK_SECONDS) $(BIN)/python -m pytest tests/stress/test_soak.py $(ARGS)

upstream: $(RELEASE) ## Run the test suites of Flask, of its neighbours and of HTTP clients
	$(call say,Test suites of Flask of its neighbours and of HTTP clients)
	@$(BIN)/python tests/upstream/run.py $(ARGS)

conformance: $(RELEASE) ## Run the test suites of asyncio, uvloop, AnyIO and aiohttp on the event loop
	$(call say,Test suites for event loops)
	@$(BIN)/python tests/conformance/run.py $(ARGS)

# Debian's packages of the servers are installed if they are missing, as root.
smokes: $(RELEASE) $(TEST_TOOLS) $(SMOKE_NEEDS) ## Run libraries, PostgreSQL and Redis on the event loop
	$(call say,Libraries and databases on the event loop)
	@PYTHONPATH=tests $(BIN)/python tests/smokes/install_servers.py
	@SMOKES_REQUIRED=1 $(BIN)/python -m pytest tests/smokes $(ARGS)
	@$(BIN)/python tests/conformance/run.py aiohttp

demo: $(RELEASE) $(DEMO_NEEDS) ## Build, and show what carboy is for; ONCE=1 to check it and end
	$(call say,The demo)
	@$(BIN)/python examples/demo $(if $(ONCE),--once) $(ARGS) || \
		{ status=$$?; test $$status -eq 130 || exit $$status; }

# It builds everything that it measures itself.
bench: $(CREATED) ## Compare with other servers, side by side
	$(call say,Benchmarks)
	@$(BIN)/python benchmarks/compare.py $(ARGS)

# It builds everything that it measures itself.
bench-client: $(CREATED) ## Compare carboy.http with other HTTP clients
	$(call say,Benchmarks of HTTP clients)
	@$(BIN)/python benchmarks/client/compare.py $(ARGS)

clean: ## Remove everything that make has made
	rm -rf $(VENV) $(TARGET) .build dist .pytest_cache .mypy_cache .ruff_cache src/carboy/*.so
	find src tests examples benchmarks -name __pycache__ -prune -exec rm -rf {} +

# A virtual environment. It is made anew if a step broke off before its stamp was written,
# or if the interpreter that it was made with is gone.
ifneq ($(wildcard $(CREATED)),)
ifneq ($(shell $(BIN)/python -c 'print(1)' 2>/dev/null),1)
$(shell rm -f $(CREATED))
endif
endif

$(CREATED):
	@command -v cargo > /dev/null || \
		{ echo "There is no cargo here: install Rust from https://rustup.rs." >&2; exit 1; }
	@command -v "$(PYTHON)" > /dev/null || \
		{ echo "There is no $(PYTHON) here: name a CPython 3.11 or newer with make PYTHON=…" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "carboy needs CPython 3.11 or newer, and $(PYTHON) is $$($(PYTHON) --version 2>&1):" \
			"name another with make PYTHON=…" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || \
		{ echo "$(PYTHON) can't make virtual environments with pip:" \
			"install its package for that (Debian and Ubuntu: python3-venv)." >&2; exit 1; }
	@echo "==> Making $(VENV) with $$($(PYTHON) --version)"
	@rm -rf $(VENV)
	@env -u VIRTUAL_ENV $(PYTHON) -m venv $(VENV)
	@touch $@

$(BUILD_TOOLS): requirements/build.txt $(CREATED)
	$(call say,Installing the build tools of $<)
	@$(PIP_INSTALL) --requirement $<
	@touch $@

$(CHECK_TOOLS): requirements/check.txt $(CREATED)
	$(call say,Installing the checkers of $<)
	@$(PIP_INSTALL) --requirement $<
	@touch $@

$(TEST_TOOLS): requirements/test.txt $(CREATED)
	$(call say,Installing what tests need: $<)
	@$(PIP_INSTALL) --requirement $<
	@touch $@

$(DEMO_NEEDS): examples/demo/requirements.txt $(CREATED)
	$(call say,Installing what the demo needs: $<)
	@$(PIP_INSTALL) --requirement $<
	@touch $@

$(SMOKE_NEEDS): requirements/smokes.txt $(CREATED)
	$(call say,Installing the libraries of $<)
	@$(PIP_INSTALL) --requirement $<
	@touch $@

# Both builds put the extension into src/carboy, so there is one or the other.
$(RELEASE): $(EXTENSION_SOURCES) $(BUILD_TOOLS)
	$(call say,Building the extension with full optimisation: minutes the first time)
	@$(BIN)/maturin develop --release $(LOCKED)
	@rm -f $(DEBUG)
	@touch $@

$(DEBUG): $(EXTENSION_SOURCES) $(BUILD_TOOLS)
	$(call say,Building the extension for debugging)
	@$(BIN)/maturin develop $(LOCKED)
	@rm -f $(RELEASE)
	@touch $@
