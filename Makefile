# Two commands for a fresh machine with Python 3.11 and pip: `make demo`, `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
RUN_DIR ?= runs/demo

BENCH_DIR ?= runs/bench

.PHONY: demo test check bench clean

demo: $(VENV)/experiments.stamp
	$(BIN)/python -m experiments.train \
	  --flagfile=experiments/flagfiles/adding_lstm.flags --run_dir=$(RUN_DIR)

test: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -n 2

bench: $(VENV)/test.stamp
	for study in "speed --host_devices=2" "rounding --host_devices=2" \
	    "memory --timed" longest norms linear; do \
	  $(BIN)/python -m experiments.benchmarks --out_dir=$(BENCH_DIR) \
	    --study=$$study || exit $$?; \
	done

check: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

# An extra is installed once, and again when pyproject.toml changes. The venv starts
# without pip, since ensurepip is in a package of its own on Debian, and then gets one.
$(VENV)/%.stamp: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv --without-pip $(VENV)
	$(PYTHON) -m pip --python $(BIN)/python --disable-pip-version-check \
	  install --quiet pip --editable ".[$*]"
	touch $@

clean:
	rm -rf $(VENV) runs build *.egg-info
