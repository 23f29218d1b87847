# make demo: set up, simulate a night, reduce it, say where the pictures are. make test, make lint: as they say.
PYTHON ?= python3
BIN = .venv/bin
# Frames of a night are read by many short jobs: bytecode written once saves seconds in each run.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test lint docs pins benchmark peers scale cluster-test faults fuzz clean-demo

demo: .venv/ready demo/truth/night.json
	$(BIN)/snakemake --configfile tests/demo.yaml

demo/truth/night.json: tests/simulated_night.py | .venv/ready
	$(BIN)/python tests/simulated_night.py demo/raw --truth demo/truth --no-images

# The tests of a file stay together, since they share what was made for them; four files at a time have room in memory.
test: .venv/ready
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/snakemake --lint --config raw=envs results=$$(mktemp -d)

# Pages of docs/ that are made from the code.
docs: .venv/ready
	PYTHONPATH=scripts $(BIN)/python tests/pages.py

.venv/ready: envs/requirements.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "firstlight needs Python 3.11 or later; say make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --compile --requirement envs/requirements.txt
	touch $@

# After a change of envs/requirements.in: the full list anew, from a fresh environment.
pins:
	rm -rf .venv-pins
	$(PYTHON) -m venv .venv-pins
	.venv-pins/bin/python -m pip install --quiet --requirement envs/requirements.in
	(echo "# Made by make pins from requirements.in: everything that is installed, and nothing else."; .venv-pins/bin/python -m pip freeze) > envs/requirements.txt
	rm -rf .venv-pins

# A simulated night, cold, through firstlight, Siril, seiza (where installed) and ccdproc: time, memory, bytes, start-up, and
# what the stacks are worth. The tables stay in benchmark/. ONLY=full,like chooses among full, like, siril, seiza, ccdproc.
SIZE ?= 2048
LIGHTS ?= 8
FLATS ?= 8
BIAS ?= 15
FILTERS ?= R,V,B
benchmark: .venv/ready
	PYTHONPATH=scripts $(BIN)/python tests/benchmark.py benchmark --size $(SIZE) --lights $(LIGHTS) --flats $(FLATS) \
		--bias $(BIAS) --filters $(FILTERS) $(if $(ONLY),--only $(ONLY))

# The demo night's lights stacked by firstlight, seiza and Siril (where installed), and what each interpolation costs.
peers: demo
	PYTHONPATH=scripts $(BIN)/python tests/peers.py demo/results/lights/NGC869/*/R --truth demo/truth
	PYTHONPATH=scripts $(BIN)/python tests/measure_interpolation.py

# Planning, nothing to do, one frame more or less, with so many tiny frames; 10000 take a quarter of an hour. ONLY=most for
# 50000 (ONLY=plan for planning alone). Figures: docs/scale.md.
FRAMES ?= 300 1000 10000
scale: .venv/ready
	PYTHONPATH=scripts $(BIN)/python tests/measure_scale.py $(FRAMES) $(if $(ONLY),--only $(ONLY))

# A real Slurm of two nodes on this machine (Debian's packages, see tests/slurm.py): nights through profiles/slurm, faults.
cluster-test: .venv/slurm
	place=$$(mktemp -d); PYTHONPATH=scripts:tests $(BIN)/python tests/cluster.py $$place/test $(ONLY); done=$$?; \
		[ $$done -ne 0 ] || rm -rf $$place; exit $$done

# A night that is killed at KILLS moments, and disturbed in other ways, a quarter of an hour. ONLY=clock for one of them.
KILLS ?= 30
faults: .venv/ready
	place=$$(mktemp -d); PYTHONPATH=scripts:tests $(BIN)/python tests/faults.py $$place/test $(ONLY) --kills $(KILLS); \
		done=$$?; [ $$done -ne 0 ] || rm -rf $$place; exit $$done

# The reader of frames against changed bytes for FUZZ seconds, guided by coverage where atheris can be had for this Python (else
# at random, and it says so); then the properties of test_properties.py with so many examples each, others in each run.
FUZZ ?= 300
EXAMPLES ?= 2000
fuzz: .venv/fuzz
	PYTHONPATH=scripts $(BIN)/python tests/fuzz.py $(FUZZ)
	EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest tests/test_properties.py

.venv/fuzz: .venv/ready envs/fuzz.txt
	-$(BIN)/python -m pip install --quiet --compile --requirement envs/fuzz.txt
	touch $@

.venv/slurm: .venv/ready envs/slurm.txt
	$(BIN)/python -m pip install --quiet --compile --requirement envs/slurm.txt
	touch $@

clean-demo:
	rm -rf demo
