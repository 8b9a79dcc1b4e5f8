# `make demo` and `make test` are all that a newcomer needs; both make their own environment.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CORE := $(VENV)/.core
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
DEMO_OUT ?= runs/demo

.PHONY: demo test check lint types contracts docs docs-serve wheel clean
.PHONY: fuzz faults bench bench-sam2 bench-davis bench-accuracy bench-switches train-default

# What a user needs: the package and its core, no torch, no tools.
$(CORE): pyproject.toml constraints.txt
	@echo "make: the environment, in $(VENV)"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "make: trackweave and its core packages, about 800 MB"
	$(PIP) -c constraints.txt -e .
	touch $(CORE)

$(STAMP): $(CORE)
	@echo "make: what tests and checks need: torch, transformers, tools; about 1.7 GB more"
	$(PIP) -c constraints.txt -e ".[dev]"
	# trackeval's dependencies would put a second OpenCV over the one that is there; what is used of it needs numpy and scipy.
	$(PIP) --no-deps "trackeval>=1.3"
	# Tests open exports with them; they would put older pandas, pyarrow and OpenCV in place of those that are there.
	$(PIP) --no-deps "datumaro>=1.13" "label-studio-sdk>=2"
	# Meta's package asks for torchvision and would build itself against another torch; neither is needed to test with it.
	SAM2_BUILD_CUDA=0 $(PIP) --no-deps --no-build-isolation "sam2==1.1.0"
	touch $(STAMP)

demo: $(CORE)  ## finds, tracks and shows the objects of a real clip
	@echo "make: the demo"
	$(BIN)/trackweave demo -o $(DEMO_OUT)

test: $(STAMP)
	$(BIN)/python -m pytest -q -n 2

# Damaged inputs for every reader of a file that may come from a stranger; kills, full disks, missing rights. The tables
# of docs/reliability.md; a short part of both is in `make test`. They need Linux.
FUZZ ?= 100000
fuzz: $(STAMP)
	$(BIN)/python -m tests.faults.fuzz --count $(FUZZ)

ROUNDS ?= 30
faults: $(STAMP)
	$(BIN)/python -m tests.faults.machine --rounds $(ROUNDS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

contracts: $(STAMP)
	$(BIN)/lint-imports --no-cache

check: lint types contracts docs wheel test  ## everything that CI checks

$(VENV)/.docs: $(STAMP)
	$(PIP) -c constraints.txt -e ".[docs]"
	touch $@

docs: $(VENV)/.docs  ## the site, in build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

docs-serve: $(VENV)/.docs  ## the site at http://127.0.0.1:8000, built again with every change
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

# The wheel, in dist/, and whether it works where nothing but the core dependencies is: no torch, no checkout on the path.
WHEEL_VENV := build/wheel-venv
wheel: $(STAMP)
	rm -rf dist $(WHEEL_VENV)
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .
	$(PYTHON) -m venv $(WHEEL_VENV)
	$(WHEEL_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt dist/trackweave-*.whl
	cd build && wheel-venv/bin/python -I ../.ci/check_wheel.py ../dist

bench: $(STAMP)  ## the figures of docs/benchmarks.md that need no data
	$(BIN)/python benchmarks/dedup.py
	$(BIN)/python benchmarks/archive.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/box_speed.py
	$(BIN)/python benchmarks/box_memory.py
	$(BIN)/python benchmarks/sample_logging.py

bench-sam2: $(STAMP)  ## the SAM 2 engine against the upstream predictor: real sizes on a GPU, a tiny model without one
	$(BIN)/python benchmarks/gpu_sam2.py $$($(BIN)/python -c "import torch; print('' if torch.cuda.is_available() else \
	  '--models toy --frames 24 --candidates 12 --objects 96 --levels 2 --size 80x48 --threads 1')")

# `make bench-davis DAVIS=DIR`: DIR holds SEQUENCE/frames and SEQUENCE/masks.
bench-davis: $(STAMP)
	$(BIN)/python benchmarks/flow_davis.py --root $(DAVIS)
	$(BIN)/python benchmarks/flow_davis.py --root $(DAVIS) --methods flow --reverse
	$(BIN)/python benchmarks/flow_davis.py --root $(DAVIS) --methods flow --objects 10

# `make bench-accuracy MOT=DIR DAVIS=DIR SIMULATED=DIR SCORER="iou learned"` writes the accuracy tables of
# docs/benchmarks.md; each part that is not named stays as it was. MOT holds MOT17/, DanceTrack/, KITTI/, SportsMOT/, MOT15/
# with MOTChallenge folders, SIMULATED the simulated detections of SportsMOT, DAVIS SEQUENCE/frames and SEQUENCE/masks. Each is a plan
# in runs/accuracy, whose page compares the rows with intervals; interrupted, it goes on where it was.
TRACKER ?= adaptive bytetrack sort ocsort botsort
SCORER ?= iou
bench-accuracy: $(STAMP)
	$(BIN)/python benchmarks/accuracy.py $(if $(MOT),--data $(MOT)) $(if $(SIMULATED),--simulated $(SIMULATED)) \
		$(if $(DAVIS),--davis $(DAVIS)) --tracker $(TRACKER) --scorer $(SCORER)

# `make bench-switches MOT=DIR SIMULATED=DIR`: the same folders.
bench-switches: $(STAMP)
	$(BIN)/python benchmarks/switches.py --data $(MOT) $(if $(SIMULATED),--simulated $(SIMULATED))

# Trains the model of association that comes with the package, on simulated crowds alone: under an hour on two cores.
train-default: $(STAMP)
	$(BIN)/python benchmarks/train_default.py --output runs/train-default --ship

clean:
	rm -rf $(VENV) runs build dist
