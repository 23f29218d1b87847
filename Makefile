# make demo: set up, simulate a night, reduce it, say where the pictures are. make test, make lint: as they say.
PYTHON ?= python3
BIN = .venv/bin
# Frames of a night are read by many short jobs: bytecode written once saves seconds in each run.
unexport PYTHONDONTWRITEBYTECODE
# From the pins alone, each file with the hash that stands there.
INSTALL = $(BIN)/python -m pip install --quiet --compile --require-hashes --no-deps

.PHONY: demo test lint docs pins audit benchmark peers scale cluster-test faults fuzz long clean-demo

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
	$(INSTALL) --requirement envs/requirements.txt
	touch $@

# After a change of envs/*.in: the full lists anew, for all platforms and every Python from 3.11 on, with the hash of each file
# that the registry has. Versions that still fit stay.
UV = uv==0.13.9
pins:
	rm -rf .venv-pins
	$(PYTHON) -m venv .venv-pins
	.venv-pins/bin/python -m pip install --quiet $(UV)
	for name in requirements slurm fuzz; do \
		.venv-pins/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-emit-index-url \
			--custom-compile-command "make pins" $$([ $$name = requirements ] || echo --constraint envs/requirements.txt) \
			envs/$$name.in --output-file envs/$$name.txt || exit 1; \
	done
	rm -rf .venv-pins

# What is known against the installed versions (asks the vulnerability service of the Python Package Index), and their licences.
AUDIT = pip-audit==2.10.1
audit: .venv/ready
	PYTHONPATH=scripts:tests $(BIN)/python tests/licences.py
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python -m pip install --quiet $(AUDIT)
	.venv-audit/bin/pip-audit --strict --require-hashes --disable-pip $(foreach list,requirements slurm fuzz,--requirement envs/$(list).txt)
	rm -rf .venv-audit

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

# So many frames in one run, watched for what grows: memory, open files, temporary files. Half an hour.
LONG ?= 2000
long: .venv/ready
	place=$$(mktemp -d); PYTHONPATH=scripts:tests $(BIN)/python tests/long.py $$place/test --frames $(LONG); \
		done=$$?; [ $$done -ne 0 ] || rm -rf $$place; exit $$done

.venv/fuzz: .venv/ready envs/fuzz.txt
	-$(INSTALL) --requirement envs/fuzz.txt
	touch $@

.venv/slurm: .venv/ready envs/slurm.txt
	$(INSTALL) --requirement envs/slurm.txt
	touch $@

clean-demo:
	rm -rf demo
