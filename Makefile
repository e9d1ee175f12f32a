# evalkit. `make eval` sets everything up and runs the main job; `make test` sets everything up and passes the tests.

PYTHON   ?= python3
VENV     := .venv
EVALKIT  := $(VENV)/bin/evalkit
SUITES   ?= libero robocasa_gr1
POLICY   ?= scripted
EPISODES ?= 2
ASSETS   ?= auto
SCENES   ?= auto
SOAK_EPISODES ?= 2000
SOAK_LIBERO   ?= 2000

# Nothing may wait for an answer.
export PIP_NO_INPUT := 1
export DEBIAN_FRONTEND := noninteractive
# Container images often forbid Python to keep compiled modules; then each process compiles its imports anew, for longer
# than it does anything else.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help setup eval test lint test-setup test-fast fuzz test-libero test-gr1 test-native test-lerobot test-end-to-end faults bench bench-libero-profile bench-peers bench-gr1 bench-scaling soak browser golden libero-tables clean

help:  ## What there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

setup: $(VENV)/.ready  ## Environments and the OpenGL library; seconds when they are there
	@$(MAKE) --no-print-directory -j2 env-libero env-robocasa_gr1
	@$(EVALKIT) doctor --fix --quick || echo "notice: this machine cannot render; policies without cameras still run"

env-%: $(VENV)/.ready
	@$(EVALKIT) env create $* >/dev/null

$(VENV)/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 10) <= v <= (3, 12) else \
	  f"evalkit needs Python 3.10 to 3.12, $(PYTHON) is {v[0]}.{v[1]}: pass another, make PYTHON=python3.11 ...")'
	@$(PYTHON) -m venv $(VENV) || { echo "python3 -m venv failed; on Debian: apt-get install -y python3-venv"; exit 1; }
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9'
	@$(VENV)/bin/python -m uv pip install --quiet --python $(VENV)/bin/python -e '.[test]'
	@touch $@

eval: setup  ## The main job: both benchmarks, scripted baseline (SUITES= POLICY= EPISODES= ASSETS= SCENES=)
	@status=0; for suite in $(SUITES); do \
	  $(EVALKIT) run --suite $$suite --policy $(POLICY) --episodes $(EPISODES) --assets $(ASSETS) \
	    --scenes $(SCENES) || status=$$?; \
	done; exit $$status

# What tests need beyond `setup`; fetching and unpacking side by side takes the time of the largest.
.PHONY: test-setup
test-setup: $(VENV)/.ready
	@$(MAKE) --no-print-directory -j4 env-libero env-robocasa_gr1 env-native env-lerobot browser

test: test-setup setup lint test-fast test-libero test-gr1 test-native test-lerobot test-end-to-end  ## All tests, simulators too

lint: $(VENV)/.ready
	$(VENV)/bin/ruff check .

# Debian's Chromium, for the tests that open the report.
browser:
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || { \
	  test $$(id -u) = 0 && command -v apt-get >/dev/null && echo "installing chromium (for the report's tests)" && \
	  apt-get -qq update && apt-get -qq install -y --no-install-recommends chromium; } >/dev/null 2>&1 \
	  || echo "notice: no Chromium here: the tests that open the report in a browser are skipped"

# Folders whose tests run inside the interpreter of a suite or a policy.
ELSEWHERE := $(foreach name,libero robocasa_gr1 native lerobot,--ignore=tests/$(name))

test-fast: $(VENV)/.ready browser  ## No simulator, no torch
	$(VENV)/bin/python -m pytest tests $(ELSEWHERE) -m "not end_to_end and not faults" -q -n 2 --dist loadfile

fuzz: $(VENV)/.ready  ## Hostile input, 50 times as many tries as in the tests and other ones each time
	EVALKIT_TRIES=50 $(VENV)/bin/python -m pytest tests/test_hostile_*.py -q -n 2 --dist worksteal

test-libero: setup  ## Inside LIBERO's interpreter, two processes
	LP_NUM_THREADS=1 $(EVALKIT) env run libero -m pytest tests/libero -q -n 2 --dist worksteal -p no:cacheprovider

test-gr1: setup  ## Inside RoboCasa-GR1's interpreter; upstream's scenes too where EVALKIT_ROBOCASA_SRC names its code
	LP_NUM_THREADS=1 $(EVALKIT) env run robocasa_gr1 -m pytest tests/robocasa_gr1 -q -n 2 --dist worksteal \
	  -p no:cacheprovider

test-native: $(VENV)/.ready  ## DiT4DiT and Qwen3DiT against upstream's recorded values, inside their interpreter
	$(EVALKIT) env run native -m pytest tests/native -q -n 2 --dist loadfile -p no:cacheprovider

test-lerobot: $(VENV)/.ready  ## LeRobot's policies against lerobot's own path, inside their interpreter
	$(EVALKIT) env run lerobot -m pytest tests/lerobot -q -n 2 --dist worksteal -p no:cacheprovider

test-end-to-end: setup  ## The command line with real simulators in Ray workers
	$(VENV)/bin/python -m pytest tests $(ELSEWHERE) -m end_to_end -q -n 2 --dist loadfile

FAULTS := $(VENV)/faults

faults: setup  ## Inject every fault, on real simulators too (minutes); writes results/benchmarks/faults.md
	rm -rf $(FAULTS)
	EVALKIT_FAULTS=$(CURDIR)/$(FAULTS) EVALKIT_OUTAGE_SECONDS=30 $(VENV)/bin/python -m pytest tests/test_faults.py \
	  tests/test_faults_slow.py -q
	$(VENV)/bin/python -m tests.fault_matrix $(FAULTS) results/benchmarks/faults.md

bench: setup  ## Speed against the bare simulator loop; writes results/benchmarks/
	$(VENV)/bin/python -m benchmarks.libero

bench-libero-profile: setup  ## Where LIBERO's steps, resets and episodes spend their time; writes results/benchmarks/
	$(VENV)/bin/python -m benchmarks.libero_profile

bench-peers: setup  ## LIBERO beside a plain script and vla-eval, 10 minutes (PEERS="--tasks 10 --few 10": 35); writes results/benchmarks/
	$(VENV)/bin/python -m benchmarks.peers $(PEERS)

bench-gr1: setup  ## RoboCasa-GR1 beside a loop that draws every step, and where the time goes; writes results/benchmarks/
	$(VENV)/bin/python -m benchmarks.robocasa_gr1

bench-scaling: setup  ## Throughput for 1, 2 ... workers; on paper for 64 and 512: what saturates first, what to buy
	$(VENV)/bin/python -m benchmarks.scaling

soak: setup  ## Thousands of short episodes: does anything grow or stay behind? (SOAK_EPISODES= SOAK_LIBERO=)
	$(VENV)/bin/python -m benchmarks.soak $(SOAK_EPISODES) $(SOAK_LIBERO)

golden: setup  ## Record the first scenes that doctor knows, after a change that is meant to change them
	$(EVALKIT) env run libero -m evalkit.doctor.preflight record libero_object stand-in
	$(EVALKIT) env run robocasa_gr1 -m evalkit.doctor.preflight record robocasa_gr1 real builtin

libero-tables: setup  ## Recompute LIBERO's tasks.csv and fixtures.npz (half an hour); ASSETS_FOLDER=real assets
	$(EVALKIT) env run libero -m suites.libero.fixtures --assets $(ASSETS_FOLDER)

clean:  ## Remove the virtual environment and caches of this folder (not the shared cache, not results)
	rm -rf $(VENV) .pytest_cache .ruff_cache *.egg-info
