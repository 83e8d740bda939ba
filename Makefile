# Four verbs for whoever works on ramet:   make demo   make test   make lint   make docs      and   make bench
# Each does all its own set-up: a virtual environment in .venv, made once and again when pyproject.toml changes.
#
# And   make packages   which uses real packages from PyPI in nodes that have none of them, in an environment of its own.
#
#   PYTHON=/path/of/python3.X   the interpreter to make .venv from (3.10 or newer)
#   ARGS="-k frames -x"         more arguments for pytest, the demo or the benchmarks
#   JOBS=2                      how many processes run the tests
#   LOCKED=no                   install any versions that pyproject.toml admits, not just those of requirements/*.txt

VENV  ?= .venv
JOBS  ?= 2
ARGS  ?=
BIN   := $(VENV)/bin
SETUP := VENV=$(VENV) bash tools/setup.sh

export PIP_DISABLE_PIP_VERSION_CHECK := 1
.DEFAULT_GOAL := help
.PHONY: help demo test in-a-row test-quick stress soak endurance unsteady sim fuzz sbom packages lock bench lint lint-ruff lint-types lint-layers lint-style docs check targets clean

help:
	@sed -n '/^# Four/,/^$$/s/^# \{0,1\}//p' Makefile

# One stamp for each extra: `make demo` doesn't install what only the tests need.
$(VENV)/.ready-%: pyproject.toml tools/setup.sh requirements/%.txt requirements/build.txt
	@$(SETUP) venv $*
	@touch $@

demo: $(VENV)/.ready-demo
	@PATH="$(abspath $(BIN)):$$PATH" bash tools/with_sshd.sh $(BIN)/ramet demo $(ARGS)

# The tests that need the machine to themselves come last, one at a time.
test: $(VENV)/.ready-test
	@$(SETUP) targets
	$(BIN)/pytest -n $(JOBS) --dist loadgroup -m "not serial and not packages and not far and not long" $(ARGS)
	@if grep -rqs 'mark\.serial' tests --include='test_*.py'; then \
	  $(BIN)/pytest -m serial $(ARGS) || [ $$? = 5 ]; fi

test-quick: $(VENV)/.ready-test
	$(BIN)/pytest -n $(JOBS) -m "not serial" tests/unit $(ARGS)

# A thousand mixed calls at a time over twenty nodes, for a minute.
stress: $(VENV)/.ready-test
	RAMET_STRESS_S=60 RAMET_STRESS_NODES=20 RAMET_STRESS_CALLS=1000 $(BIN)/pytest -q -s tests/stress --timeout 600 $(ARGS)

# All that can happen to a tree of 50 nodes under load, for 20 minutes, a quarter of it simulated. At its end it says what came of it.
SOAK_S     ?= 1200
SOAK_NODES ?= 50
soak: $(VENV)/.ready-test
	@env -u PYTHONUNBUFFERED -u PYTHONDONTWRITEBYTECODE PYTHONPATH=tests \
	  $(abspath $(BIN))/python -m soak.run --seconds $(SOAK_S) --nodes $(SOAK_NODES) $(ARGS)

# Simulated trees with faults: make sim SEED=... repeats one run, and makes it small if it fails; without a seed, a minute of them.
sim: $(VENV)/.ready-test
	PYTHONPATH=tests $(BIN)/python -m sim.run $(SEED) $(ARGS)

# Coverage-guided: a minute for each target, in an environment of its own. What was found once is kept in FUZZ_CORPUS.
FUZZ_CORPUS ?= $(VENV)/fuzz/corpus
FUZZ_S      ?= 60
fuzz: $(VENV)/fuzz/.ready
	@for target in frames values dialogue messages handshake requests; do mkdir -p $(FUZZ_CORPUS)/$$target; echo "== $$target"; \
	  PYTHONPATH=tests $(VENV)/fuzz/bin/python -m fuzz.targets $$target $(FUZZ_CORPUS)/$$target tests/fuzz/corpus/$$target -max_len=4096 \
	    -max_total_time=$(FUZZ_S) -print_final_stats=1 $(ARGS) || exit 1; done

$(VENV)/fuzz/.ready: pyproject.toml tools/setup.sh requirements/fuzz.txt
	@VENV=$(VENV)/fuzz bash tools/setup.sh venv fuzz
	@touch $@

# The matrix of real packages, and the test suites of some of them, run in nodes. They are installed beside .venv's own.
packages: $(VENV)/packages/.ready
	$(VENV)/packages/bin/pytest -n $(JOBS) tests/packages $(ARGS)

$(VENV)/packages/.ready: pyproject.toml tools/setup.sh requirements/packages.txt
	@VENV=$(VENV)/packages bash tools/setup.sh venv packages
	@touch $@

# A million calls, ten thousand nodes grown and closed, a thousand killed and grown again: memory, descriptors and threads stay.
CALLS      ?= 1000000
NODES      ?= 10000
RECONNECTS ?= 1000
endurance: $(VENV)/.ready-test
	@env -u PYTHONUNBUFFERED -u PYTHONDONTWRITEBYTECODE PYTHONPATH=tests \
	  $(abspath $(BIN))/python -m soak.endurance --calls $(CALLS) --nodes $(NODES) --reconnects $(RECONNECTS) $(ARGS)

# All that `make test` runs, again and again in random order, until it fails or has passed so often.
RUNS ?= 20
in-a-row:
	@for run in $$(seq $(RUNS)); do printf '\n==== run %s of %s\n' $$run $(RUNS); $(MAKE) --no-print-directory test ARGS="-q --shuffle $(ARGS)" || exit; done

# The tests, or some of them, while processes are stopped and threads wait at random: what fails then relies on time.
unsteady: $(VENV)/.ready-test
	@env -u PYTHONUNBUFFERED -u PYTHONDONTWRITEBYTECODE -u PYTHONPATH $(abspath $(BIN))/python tests/soak/unsteady.py \
	  -n $(JOBS) --dist loadgroup -m "not serial and not packages and not far and not long" $(ARGS)

# What ramet is used with, as CycloneDX: dist/ramet.cdx.json. Of an environment that holds nothing but ramet and what it needs.
sbom: $(VENV)/sbom/.ready $(VENV)/plain/.ready
	@mkdir -p dist
	@$(VENV)/sbom/bin/cyclonedx-py environment --pyproject pyproject.toml --mc-type library --output-reproducible \
	  -o dist/ramet.cdx.json $(VENV)/plain/bin/python
	@echo dist/ramet.cdx.json

$(VENV)/sbom/.ready: pyproject.toml tools/setup.sh requirements/sbom.txt
	@VENV=$(VENV)/sbom bash tools/setup.sh venv sbom
	@touch $@

$(VENV)/plain/.ready: pyproject.toml tools/setup.sh requirements/demo.txt
	@VENV=$(VENV)/plain bash tools/setup.sh venv demo
	@touch $@

# requirements/*.txt: what is installed for each goal, with its hashes. ARGS=--upgrade takes the newest versions.
lock: $(VENV)/.ready-test
	@VENV=$(VENV) ARGS="$(ARGS)" bash tools/lock.sh

# Both variables distort what is measured: many small reads and writes; every start compiles anew.
bench: $(VENV)/.ready-bench
	@env -u PYTHONUNBUFFERED -u PYTHONDONTWRITEBYTECODE bash tools/with_sshd.sh $(BIN)/python bench/run.py $(ARGS)

# Four looks; `make -k lint` goes on behind one that fails.
lint: lint-ruff lint-types lint-layers lint-style

lint-ruff: $(VENV)/.ready-dev
	$(BIN)/ruff check .

lint-types: $(VENV)/.ready-dev
	$(BIN)/mypy

lint-layers: $(VENV)/.ready-dev
	$(BIN)/lint-imports

lint-style: $(VENV)/.ready-dev
	$(BIN)/pytest -q tests/unit/test_style.py tests/unit/test_public_names.py

docs: $(VENV)/.ready-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

check: lint test docs

# All real targets, with the containers that `make test` leaves out where they aren't installed.
targets: $(VENV)/.ready-test
	@$(SETUP) targets all
	$(BIN)/pytest -n $(JOBS) --dist loadgroup tests/targets $(ARGS)

clean:
	rm -rf $(VENV) site dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
