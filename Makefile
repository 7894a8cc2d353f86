# make demo | test-fast | test | nightly | coverage | lint: each makes .venv first, if it is not there, with the versions in constraints.txt.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
FAST := $(addprefix tests/veriflow/,flows numerics regions tables testing)

.PHONY: demo test-fast test nightly coverage lint benchmarks clean

demo: $(READY)
	$(BIN)/veriflow demo

test-fast: $(READY)
	$(BIN)/pytest -n 2 $(FAST)

test: $(READY)
	$(BIN)/pytest -n 2

nightly: $(READY)
	$(BIN)/pytest -n 2 -m "" --hypothesis-profile nightly

coverage: $(READY)
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n 2
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

benchmarks: $(READY)
	for name in certificates level_set_queries cost_against_size level_set_mass density training_speed provable_flows; do \
		$(BIN)/python benchmarks/$$name.py || exit 1; done

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $(READY)

clean:
	rm -rf .venv demo-output build *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis .coverage*
