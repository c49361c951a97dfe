# People and CI run the same targets. Each sets up what it needs: `.venv`, made by uv when it is on
# the path and by `python3 -m venv` otherwise, filled from requirements.lock, and made anew only when
# that file or pyproject.toml has changed. Another interpreter: make PYTHON=python3.13 test

.DEFAULT_GOAL := help
.PHONY: help demo dev test test-components lint bench soak docs screenshots lock clean
.DELETE_ON_ERROR:

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.stamp
# The demo needs half of it. Where the whole is there, it is kept up to date instead.
DEMO_STAMP := $(or $(wildcard $(STAMP)),.venv/.demo)
LOCK_FLAGS ?=
LOCK_WORDS := --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header \
  --no-strip-extras --quiet
FAULTS ?= 20

help: ## list the targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' Makefile

demo: $(DEMO_STAMP) ## fill the tables from the embedded archive, through Dagster, and print them
	@$(BIN)/dicom-assets demo

dev: $(DEMO_STAMP) ## the same with the Dagster UI
	@$(BIN)/dicom-assets dev

test: $(STAMP) ## the tests: unit, end to end, property, project (eight to ten minutes on two cores)
	@$(BIN)/python -m pytest -n 3 --dist worksteal

test-components: $(STAMP) ## the tests that need a browser or a foreign service; installs those
	@if [ -f dicom_assets_tests/components/install ]; then \
	  PATH="$$PWD/$(BIN):$$PATH" dicom_assets_tests/components/install; fi
	@# Three at once on two cores: the tests of the daemon and of the page mostly wait.
	@$(BIN)/python -m pytest -n 3 --dist loadfile dicom_assets_tests/components

lint: $(STAMP) ## ruff, its formatter, mypy and the direction of imports
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: $(STAMP) ## the benchmarks, to benchmarks/, and hostile answers; BENCH=full for hours of them
	@# Without the environment of dlt and others the rest is measured, and it is said.
	-@PATH="$$PWD/$(BIN):$$PATH" dicom_assets_tests/components/environment ../bench/peers \
	  "a third of a gigabyte"
	@$(BIN)/python -m dicom_assets_tests.bench
	@$(BIN)/python -m dicom_assets_tests.bench.hostile

soak: $(STAMP) ## every fault and many new histories, FAULTS (20) times over
	@FAULTS=$(FAULTS) HYPOTHESIS_PROFILE=soak $(BIN)/python -m pytest -n 2 \
	  dicom_assets_tests/property dicom_assets_tests/feed/faults \
	  dicom_assets_tests/emulator dicom_assets_tests/adversary \
	  dicom_assets_tests/commands/migrate/test_migration.py \
	  dicom_assets_tests/tables/delta/test_apply.py \
	  dicom_assets_tests/tables/delta/test_study_files.py dicom_assets_tests/tables/test_interleaved.py \
	  dicom_assets_tests/tables/upkeep/test_repair.py \
	  dicom_assets_tests/tables/upkeep/test_padded_keys.py dicom_assets_tests/defs/test_orders.py \
	  dicom_assets_tests/components/test_killed.py dicom_assets_tests/components/test_noticed.py

docs: $(STAMP) ## write the generated reference pages anew
	@$(BIN)/dicom-assets docs

screenshots: $(STAMP) ## take the pictures of the pages anew, to docs/pictures; needs a browser
	@$(BIN)/python -m pytest -n 0 --pictures dicom_assets_tests/components/test_page.py

lock: ## resolve the locks anew; newer versions with LOCK_FLAGS=--upgrade
	@if command -v uv >/dev/null; then uv=uv; else \
	  echo "lock: uv is not on the path: installing it into .venv"; \
	  [ -x $(BIN)/python ] && $(BIN)/python -m pip --version >/dev/null 2>&1 \
	    || "$(PYTHON)" -m venv .venv || exit 1; \
	  $(BIN)/python -m pip install --quiet uv || exit 1; uv=$(BIN)/uv; fi; \
	echo "lock: resolving for Python 3.11 and later, on every platform"; \
	{ printf '%s\n' \
	    '# Made by `make lock`: what runs and tests the project, on every platform, with hashes.' \
	    && "$$uv" pip compile pyproject.toml --all-extras --universal --python-version 3.11 \
	      $(LOCK_WORDS) $(LOCK_FLAGS) --output-file requirements.lock >/dev/null \
	    && cat requirements.lock; } > requirements.lock.new \
	  && mv requirements.lock.new requirements.lock \
	  && { printf '%s\n' '# Made by `make lock`: the part of requirements.lock that the demo needs.' \
	    && printf '%s\n' hatchling editables | "$$uv" pip compile pyproject.toml - --extra demo \
	      --universal --python-version 3.11 --constraint requirements.lock $(LOCK_WORDS); } \
	    > requirements-demo.lock.new \
	  && mv requirements-demo.lock.new requirements-demo.lock \
	  || { rm -f requirements*.lock.new; exit 1; }

clean: ## remove .venv, caches and builds; data stays
	rm -rf .venv build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find dicom_assets dicom_assets_tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): requirements.lock pyproject.toml
	@$(call set_up,requirements.lock)
	@touch $(STAMP)

.venv/.demo: requirements-demo.lock pyproject.toml
	@$(call set_up,requirements-demo.lock)
	@touch .venv/.demo

# An environment that exists is kept and brought up to date, whoever made it.
define set_up
  if command -v uv >/dev/null; then $(with_uv); else $(with_pip); fi && $(keep_quiet)
endef

define with_uv
  echo "setup: .venv from $(1), with uv"; \
  { [ -x $(BIN)/python ] || uv venv --quiet --python "$(PYTHON)" .venv; } \
  && uv pip install --python $(BIN)/python --quiet --require-hashes -r $(1) \
  && uv pip install --python $(BIN)/python --quiet --no-deps --no-build-isolation --editable .
endef

define with_pip
  "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
    echo "setup: $(PYTHON) is missing or older than 3.11: install Python 3.11 or later," \
      "or name one: make PYTHON=python3.13" >&2; exit 1; }; \
  "$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
    echo "setup: $(PYTHON) cannot make environments." \
      "Debian, Ubuntu: apt-get install python3-venv. Or put uv on the path." >&2; exit 1; }; \
  echo "setup: .venv from $(1), with pip (a minute or two)"; \
  { $(BIN)/python -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv .venv; } \
  && $(quiet_pip) --require-hashes -r $(1) \
  && $(quiet_pip) --no-deps --no-build-isolation --editable .
endef

quiet_pip = $(BIN)/python -m pip install --disable-pip-version-check --quiet

# Neither dagster nor dg sends anybody a word, from whatever shell they are started. For dg a file
# says so, where the user has none of their own.
define keep_quiet
  printf '[cli.telemetry]\nenabled = false\n' > .venv/dg.toml && $(BIN)/python -c 'import pathlib, sys, sysconfig; \
    site = pathlib.Path(sysconfig.get_path("purelib")); \
    (site / "no_telemetry.pth").write_text("import no_telemetry\n"); \
    (site / "no_telemetry.py").write_text(sys.argv[1])' "$$NO_TELEMETRY"
endef

define NO_TELEMETRY
import os, sys
os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")
folder = os.environ.get("XDG_CONFIG_HOME", os.path.expanduser("~/.config"))
if not os.path.exists(os.path.join(folder, "dg.toml")):
    os.environ.setdefault("DG_CLI_CONFIG", os.path.join(sys.prefix, "dg.toml"))
endef
export NO_TELEMETRY
