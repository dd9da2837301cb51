PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
MOSAIC := build/mosaic/.ready

.PHONY: help install demo test slow gpu chaos check docs format lock audit clean
help:  ## Show this help
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --requirement requirements.lock
	$(BIN)/pip install --quiet --no-deps --editable .
	@touch $(READY)

$(MOSAIC): $(READY) tests/support/mosaic.txt
	$(BIN)/pip install --quiet --no-deps --upgrade --target $(@D) --requirement tests/support/mosaic.txt
	@touch $@

install: $(READY)  ## Create .venv with exactly requirements.lock

demo: $(READY)  ## The whole job on generated scenes, offline, 6 to 8 minutes
	$(BIN)/mcgurk demo

test: $(READY)  ## The tests that every change must pass (under 20 minutes on 2 cores)
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile

slow: $(READY) $(MOSAIC)  ## Slower tests: training goals, kills, damaged files, deployments (under 50 minutes)
	$(BIN)/python -m pytest -m slow -n 2 --dist loadfile

gpu: $(READY)  ## Checks that training works on this machine's GPU, one line per check (at most 8 minutes)
	$(BIN)/python -m benchmarks.gpu

chaos: $(READY)  ## Plays accidents on deployed services for an hour or ROUNDS=n, drawn with SEED=n; continues where it stopped
	$(BIN)/python -m benchmarks.chaos $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SEED),--seed $(SEED))

check: $(READY) docs  ## Format, lint, types and documents
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python

docs: $(READY)  ## The documents as HTML, in build/docs; a broken link is an error
	$(BIN)/sphinx-build -q -W -n -E -c docs -d build/doctrees . build/docs

format: $(READY)  ## Mend format and imports
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock:  ## Renew requirements.lock from pyproject.toml
	rm -rf $(VENV)-lock
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/pip install --quiet ".[dev]"
	(echo "# Every package that \`make demo\` and \`make test\` install, exactly. Renew with \`make lock\`."; \
	 $(VENV)-lock/bin/pip freeze --exclude mcgurk) > requirements.lock
	rm -rf $(VENV)-lock

audit:  ## Known vulnerabilities of what requirements.lock holds; needs a network, and says so where there is none
	rm -rf $(VENV)-audit
	$(PYTHON) -m venv $(VENV)-audit
	$(VENV)-audit/bin/pip install --quiet pip-audit
	$(VENV)-audit/bin/python .ci/audit.py $(VENV)-audit/bin/pip-audit requirements.lock; code=$$?; rm -rf $(VENV)-audit; exit $$code

clean:  ## Remove .venv
	rm -rf $(VENV)
