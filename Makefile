# `make pretrain` and `make test` set everything up on a machine that has Python 3.11-3.13 and make.
# MODEL=vilbert pre-trains the other model, WORKDIR=... chooses the folder, ARGS=... goes to the program.
PYTHON ?= python3
VENV ?= .venv
MODEL ?= vlbert
WORKDIR ?= runs/$(MODEL)_pretrain
PIXELS ?= runs/from_pixels
ARGS ?=
RUN := $(VENV)/bin/python

.PHONY: pretrain end-to-end from-pixels test test-all lint format clean

pretrain: $(VENV)/ready
	$(RUN) main.py --config=configs/$(MODEL)_pretrain.py --workdir=$(WORKDIR) $(ARGS)

# A detector trained on pictures, its region features, VL-BERT on them.
from-pixels: $(VENV)/ready
	$(RUN) scripts/from_pixels.py --workdir=$(PIXELS) $(ARGS)

# VL-BERT sees the pictures themselves, docs/pixels.md.
end-to-end: $(VENV)/ready
	$(RUN) main.py --config=configs/vlbert_pretrain.py:features=pixels --workdir=runs/vlbert_end_to_end $(ARGS)

test: $(VENV)/ready
	$(RUN) -m pytest -m "not slow" -n auto --dist loadfile $(ARGS)

test-all: $(VENV)/ready
	$(RUN) -m pytest -n auto --dist loadfile $(ARGS)

lint: $(VENV)/ready
	$(RUN) -m ruff check . && $(RUN) -m ruff format --check . && $(RUN) -m mypy

format: $(VENV)/ready
	$(RUN) -m ruff check --fix . ; $(RUN) -m ruff format .

# The lock holds the versions that were tested together.
$(VENV)/ready: requirements.lock
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else \
	  "Python 3.11, 3.12 or 3.13 is needed, this is %d.%d: make PYTHON=python3.12 ..." % v)'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@touch $@

clean:
	rm -rf $(VENV)
