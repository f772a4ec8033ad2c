# `make` alone lists what there is.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help demo test check format protos bench model pictures controllers clean

help: ## say what each target does
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/run ## run the whole network once: a job over REST, its answer, its receipt, the check
	$(BIN)/aos demo

test: .venv/test check ## everything that CI runs; as root, installs Chromium and PostgreSQL for it if there are none
	$(BIN)/python tools/install.py browser
	$(BIN)/python tools/install.py anvil
	$(BIN)/python tools/install.py postgres
	$(BIN)/python tools/install.py hosts
	$(BIN)/python -m pytest

check: .venv/test ## formatting, lint, types, protos; no tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(BIN)/python -m tools.protos check

format: .venv/test ## mend what formatting and lint can mend by themselves
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/buf format -w protos

protos: .venv/test ## generate aos/v1 and gateway/v1 from protos/
	$(BIN)/python -m tools.protos generate

bench: .venv/test ## measure, and print ratios; builds llama.cpp's own server first
	$(BIN)/python -m bench.first_token
	$(BIN)/python -m bench.engine
	$(BIN)/python -m bench.exact
	$(BIN)/python -m bench.controllers
	$(BIN)/python -m bench.verify
	$(BIN)/python -m bench.serving
	$(BIN)/python -m bench.gateway

model: .venv/test .venv-tools/done ## train the bundled model again: about 40 minutes on 2 cores
	.venv-tools/bin/python -m tools.demo_model train export
	$(BIN)/python -m tools.demo_model evaluate card

pictures: .venv/test .venv-tools/done ## train the bundled image model again: about half an hour on one core
	.venv-tools/bin/python -m tools.picture_model outline find compose export
	$(BIN)/python -m tools.picture_model measure card

controllers: .venv-tools/done ## build the bundled controllers again, from controllers/: about a minute
	.venv-tools/bin/python -m tools.controllers

clean: ## remove what these targets made
	rm -rf .venv .venv-tools build dist third_party .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/run: requirements/run.txt pyproject.toml tools/install.py | .venv/bin/python
	$(BIN)/python tools/install.py run
	@touch $@

.venv/test: requirements/run.txt requirements/postgres.txt requirements/test.txt pyproject.toml tools/install.py | .venv/bin/python
	$(BIN)/python tools/install.py test
	@touch .venv/run $@

.venv-tools/done: requirements/tools.txt
	$(PYTHON) -m venv .venv-tools
	.venv-tools/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/tools.txt
	@touch $@
