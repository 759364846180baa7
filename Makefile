.DEFAULT_GOAL := help
PY := .venv/bin/python

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

.venv/.stamp: pyproject.toml
	@python3 -c 'import ensurepip' 2>/dev/null || { \
	  [ "$$(id -u)" = 0 ] || { echo "python3-venv is missing: install it as root"; exit 1; }; \
	  apt-get update -qq && apt-get install -y -qq python3-venv; }
	python3 -m venv .venv
	$(PY) -m pip install -q -e '.[test,lint]'
	@touch $@

setup: .venv/.stamp ## create the virtual environment and install

test: setup ## run the tests of the parts that are there
	$(PY) -m pytest tests/protocol

lint: setup ## check the style of the parts that are tested
	.venv/bin/ruff check broker/protocol tests/protocol
	.venv/bin/mypy -p broker.protocol

clean: ## remove what was made
	rm -rf .venv build *.egg-info

.PHONY: help setup test lint clean
