# Every target makes its own environment; nothing has to be installed beforehand but Python >= 3.10.
PYTHON ?= python3
VENV   ?= .venv
DEMO   ?= demo
RUN     = $(VENV)/bin/python -m

.PHONY: help demo test lint types bench bench-build bench-overlap bench-training bench-push
.PHONY: bench-sa1b bench-miniature format clean
help:
	@echo "make demo    from nothing: stand-in pictures, shards, check, proof, training in $(DEMO)/;"
	@echo "             then open $(DEMO)/index.html, the experiment in order"
	@echo "make test    the whole test suite"
	@echo "             (both bring PyTorch: about 5 GB)"
	@echo "make lint    ruff          make types   mypy --strict"
	@echo "make bench   build rate beside a bare decode loop (bench-build), and what the search for"
	@echo "             overlaps finds beside hashes that others use, and its time (bench-overlap:"
	@echo "             its peers bring PyTorch, and it needs photographs, see CONTRIBUTING.md),"
	@echo "             the loader and a training step beside the public ones (bench-training),"
	@echo "             a push beside the bare client of the Hub (bench-push), the scan of SA-1B's"
	@echo "             archives beside cat and gzip (bench-sa1b), and the paper's experiment in"
	@echo "             miniature (bench-miniature: half an hour)"
	@echo "make format  ruff format   make clean   remove environment and demo"

# What the package needs, and what its tests need on top, in one environment.
$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(RUN) pip install --quiet --disable-pip-version-check --upgrade pip

$(VENV)/.package: pyproject.toml | $(VENV)/bin/python
	$(RUN) pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.train: pyproject.toml | $(VENV)/bin/python
	$(RUN) pip install --quiet --disable-pip-version-check --editable '.[train]'
	@touch $@ $(VENV)/.package

$(VENV)/.test: pyproject.toml | $(VENV)/bin/python
	$(RUN) pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@ $(VENV)/.package $(VENV)/.train

$(VENV)/.bench: pyproject.toml | $(VENV)/bin/python
	$(RUN) pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@touch $@ $(VENV)/.package

demo: $(VENV)/.train
	@echo "== a stand-in of all six sources and the four evaluation sets"
	$(VENV)/bin/hqdata mini --out $(DEMO)/data
	@echo "== what is there"
	$(VENV)/bin/hqdata sources --data-root $(DEMO)/data
	@echo "== shards"
	$(VENV)/bin/hqdata build --data-root $(DEMO)/data --recipe mini --out $(DEMO)/shards
	$(VENV)/bin/hqdata build --data-root $(DEMO)/data --recipe mini-evaluation --out $(DEMO)/evaluation
	@echo "== every byte and pixel re-read"
	$(VENV)/bin/hqdata check $(DEMO)/shards
	$(VENV)/bin/hqdata check $(DEMO)/evaluation
	@echo "== what is in it"
	$(VENV)/bin/hqdata stats $(DEMO)/shards --html $(DEMO)/stats.html
	@echo "== is any of it in an evaluation set? (the stand-in has but a part of these: --subset)"
	$(VENV)/bin/hqdata verify-no-overlap $(DEMO)/shards --data-root $(DEMO)/data --subset --copies 8 \
		--report $(DEMO)/overlap.json --html $(DEMO)/overlap.html
	@echo "== what could be published of it (nothing is sent)"
	$(VENV)/bin/hqdata push $(DEMO)/shards --repo me/hqseg-mini --certificate $(DEMO)/overlap.json --dry-run
	@echo "== the HQ token on vit_micro, a small SAM, beside that SAM"
	rm -rf $(DEMO)/run
	$(RUN) training.train --model vit_micro --shards $(DEMO)/shards --eval-shards $(DEMO)/evaluation \
		--epochs 8 --lr-drop-epoch 6 --batch-size 8 --device cpu --out $(DEMO)/run
	@echo "== all of it on one page"
	$(RUN) training.overview --run $(DEMO)/run --shards $(DEMO)/shards --overlap $(DEMO)/overlap.json \
		--out $(DEMO)/index.html
	@echo "open $(DEMO)/index.html in a browser: the experiment in order, with links to the page of each step"

# A process a core: most tests wait for processes, servers or disks of their own.
test: $(VENV)/.test
	$(RUN) pytest --numprocesses auto --dist worksteal

lint: $(VENV)/.test
	$(RUN) ruff check .
	$(RUN) ruff format --check .

types: $(VENV)/.test
	$(RUN) mypy

bench: bench-build bench-overlap bench-training bench-push bench-sa1b bench-miniature

bench-build: $(VENV)/.package
	$(RUN) benchmarks.build

bench-push: $(VENV)/.package
	$(RUN) benchmarks.push
	$(RUN) benchmarks.push --xet

bench-sa1b: $(VENV)/.test
	$(RUN) benchmarks.sa1b

bench-training: $(VENV)/.test
	$(RUN) benchmarks.loader
	$(RUN) benchmarks.step

bench-miniature: $(VENV)/.test
	$(RUN) benchmarks.miniature --out $(DEMO)/miniature --jobs 2

bench-overlap: $(VENV)/.bench
	$(RUN) benchmarks.overlap
	$(RUN) benchmarks.overlap --speed

format: $(VENV)/.test
	$(RUN) ruff check --fix .
	$(RUN) ruff format .

clean:
	rm -rf $(VENV) $(DEMO) .mypy_cache .ruff_cache .pytest_cache .hypothesis
