# make demo   set up, judge the sample data, show the report
# make test   set up, then lint, types and tests
# make slow   the tests that take minutes
PYTHON ?= python3
BIN := .venv/bin
DEMO := runs/demo

.PHONY: demo test slow check setup clean

setup: .venv/.ready

# done again only when the dependencies change
.venv/.ready: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("labelclean needs Python 3.11 or newer: make PYTHON=python3.12 ...") if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

demo: setup
	$(BIN)/labelclean fit sample_data/images sample_data/labels.csv --config sample_data/fit.toml --out $(DEMO) --overwrite
	$(BIN)/labelclean report $(DEMO)
	$(BIN)/labelclean evaluate $(DEMO) sample_data/truth.csv

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: check
	$(BIN)/python -m pytest -q

slow: setup
	$(BIN)/python -m pytest -q -m slow

clean:
	rm -rf .venv runs build *.egg-info .mypy_cache .ruff_cache .pytest_cache
