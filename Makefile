# A fresh machine needs two commands: `make run` and `make test`. `make` alone lists the rest.

# The Python that .venv is made with: make PYTHON=python3.12 install
PYTHON ?= python3
# More arguments for pytest: make test ARGS="tests/storage -x"
ARGS ?=
# How long `make fuzz` tries each target, and how long `make soak` goes on.
SECONDS ?= 600
# How many random requests `make fuzz-api` sends to each operation.
EXAMPLES ?= 100

PYTHON_OF_VENV := .venv/bin/python
INSTALLED := .venv/.installed
# If it cannot be installed, pip does the same, more slowly. It must use the installed Python.
UV := UV_PYTHON_DOWNLOADS=never .venv/bin/uv
# The programs that tests drive: nginx, Chromium and the like.
PACKAGES := $(PYTHON_OF_VENV) tools/packages.py
UV_LOCK := tools/requirements-uv.txt
# An environment for each of the programs that `make test-clients` drives.
CLIENTS := $(patsubst tests/clients/python/%.txt,tests/clients/.environments/%/.installed,$(wildcard tests/clients/python/*.txt))
CLIENTS += $(patsubst %/package.json,%/node_modules/.package-lock.json,$(wildcard tests/clients/*/package.json))
# What mypy checks; ruff alone checks tests and examples.
TYPED := $(wildcard api services sd_client state storage observability doctor simulator tools/*.py config.py config_types.py stable_diffusion_api.py gunicorn.conf.py)

# Compiled modules are kept: otherwise each of the hundreds of processes that the tests start compiles all it imports.
unexport PYTHONDONTWRITEBYTECODE

# Two processes more than processors, because most tests wait for something. A file stays in one process, where its tests
# share a service; tests/conftest.py says which files begin first.
BESIDE = -n $$(($$(nproc 2>/dev/null || echo 2) + 2)) --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help install run test test-deploy test-clients test-faults test-hosts test-scale test-webui fuzz fuzz-api soak screenshots bench bench-scale bench-litellm docs docs-serve error-docs check lines audit format lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(INSTALLED) ## make .venv and install all requirements, hashes checked
ifneq ($(origin PYTHON),file)
	@# A choice that comes too late must not be dropped in silence.
	@test "$$($(PYTHON) -c 'import sys; print(sys.version_info[:2])')" = \
	      "$$($(PYTHON_OF_VENV) -c 'import sys; print(sys.version_info[:2])')" || \
	  { echo "PYTHON=$(PYTHON): .venv was made with another version; run 'make clean' first." >&2; exit 1; }
endif

run: install ## start simulator, Redis and service on PORT (5002); a real WebUI: SD_WEBUI_URL=http://host:7860
	@$(PYTHON_OF_VENV) tools/run.py

test: install ## run all tests but those of the other test- targets
	@$(PACKAGES)
	$(PYTHON_OF_VENV) -m pytest $(BESIDE) --ignore=tests/clients --ignore=tests/scale --ignore=tests/deploy --ignore=tests/faults --ignore=tests/hosts $(ARGS)

# Each class of the matrix has one service and stays in one process.
test-faults: install ## every way a WebUI can fail x route x worker x Redis, each state of Redis, processes that die at random (minutes)
	$(PYTHON_OF_VENV) -m pytest -n auto --dist loadscope tests/faults $(ARGS)

# One after the other: they need the machine to themselves. Those with network namespaces are skipped without root.
test-scale: install ## many WebUIs, and networks that break (minutes; some need root)
	@$(PACKAGES)
	$(PYTHON_OF_VENV) -m pytest tests/scale $(ARGS)

# Building the image also needs the package registry.
test-hosts: install ## six hosts that die and are cut off, Redis with Sentinels, the Dockerfile carried out (minutes; some need root)
	@$(PACKAGES)
	$(PYTHON_OF_VENV) -m pytest tests/hosts $(ARGS)

test-deploy: install ## nginx, Prometheus and the dashboard as they are shipped, before the real service (a minute)
	@$(PACKAGES)
	$(PYTHON_OF_VENV) -m pytest tests/deploy $(ARGS)

test-clients: install $(CLIENTS) ## programs that speak A1111's or OpenAI's API, as they are published, against the service (minutes)
	$(PYTHON_OF_VENV) -m pytest $(BESIDE) tests/clients $(ARGS)

test-webui: install ## check that a real WebUI does what the service relies on: SD_WEBUI_URL=http://host:7860
	@test -n "$$SD_WEBUI_URL" || \
	  { echo "Which WebUI? make test-webui SD_WEBUI_URL=http://host:7860" >&2; exit 2; }
	$(PYTHON_OF_VENV) -m pytest tests/webui $(ARGS)

# Findings are kept in tests/fuzz/cases, and `make test` replays them.
fuzz: install ## look for inputs that break what reads pictures and WebUIs: SECONDS=600 for each of four targets
	@for target in pictures results wire bodies; do \
	  $(PYTHON_OF_VENV) -m tests.fuzz.run $$target --seconds $(SECONDS) || exit 1; done

fuzz-api: install ## valid and invalid requests made from the API's description, without and with API keys: EXAMPLES=100 random ones per operation
	FUZZ_EXAMPLES=$(EXAMPLES) $(PYTHON_OF_VENV) -m pytest -s tests/integration/test_schemathesis.py

soak: install ## callers of every kind and random faults, with real processes: SECONDS=600 (Linux)
	$(PYTHON_OF_VENV) -m tools.soak --seconds $(SECONDS)

screenshots: install ## take new pictures of the studio page for the docs (needs Chromium)
	SCREENSHOTS=docs/images $(PYTHON_OF_VENV) -m pytest tests/browser/test_studio_looks.py $(ARGS)

bench: install ## this service beside nginx, a tutorial's proxy and litellm's: one table, within ten minutes (Linux)
	$(PYTHON_OF_VENV) -m bench $(ARGS)

bench-scale: install ## many WebUIs, callers and hosts (20 minutes); ARGS="--folder 1000000": stored images; ARGS=--hour: mixed traffic (Linux)
	$(PYTHON_OF_VENV) -m bench.scale $(ARGS)

# A separate step: it needs the network, and a hundred packages that nothing else needs.
bench-litellm: install ## install litellm's proxy for `make bench`, in a separate environment
	$(PYTHON_OF_VENV) -m venv --clear bench/.venv-litellm
	$(UV) pip install --quiet --python bench/.venv-litellm/bin/python 'litellm[proxy]==1.106.2'

docs: install ## build the documentation into site/, every broken link an error; open site/index.html
	$(MKDOCS) build --strict --quiet

error-docs: install ## write docs/errors.md and web/titles.js from api/errors.toml
	$(PYTHON_OF_VENV) -m tools.error_docs

docs-serve: install ## show the documentation on http://localhost:8001, as it is written
	$(MKDOCS) serve --dev-addr localhost:8001

# Without the advertisement for another program.
MKDOCS = NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs

# bandit's rules are ruff's S rules.
check: install ## lint, formatting and types
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy --strict $(TYPED)
	.venv/bin/mypy --strict --follow-imports=silent -p bench -p tools.hosts -p tools.soak

lines: ## count the lines of Python in each part
	@git ls-files '*.py' | xargs wc -l | awk '$$2 != "total" { \
	  part = index($$2, "/") ? substr($$2, 1, index($$2, "/")) : "./"; lines[part] += $$1 } \
	  END { for (part in lines) printf "%-15s %6d\n", part, lines[part] }' | sort

audit: install ## look the requirements up in the list of known vulnerabilities (needs the network)
	@$(PYTHON_OF_VENV) tools/audit.py

format: install ## format the code and sort its imports
	.venv/bin/ruff check --select I --fix .
	.venv/bin/ruff format .

lock: install ## write the requirements files from pyproject.toml; newer versions: ARGS=--upgrade
	$(LOCK) pyproject.toml -o requirements.txt $(ARGS)
	$(LOCK) pyproject.toml --group dev -c requirements.txt -o requirements-dev.txt $(ARGS)
	echo uv | $(LOCK) - -o $(UV_LOCK) $(ARGS)
	for name in tests/clients/python/*.in; do \
	  $(LOCK) --excludes tests/clients/python/excluded $$name -o $${name%.in}.txt $(ARGS) || exit 1; done
	for folder in $(dir $(wildcard tests/clients/*/package.json)); do \
	  npm install --prefix $$folder --package-lock-only --ignore-scripts --no-audit --no-fund || exit 1; done

LOCK = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header

clean: ## remove .venv and caches; images in data/ stay
	rm -rf .venv bench/.venv-litellm tests/clients/.environments tests/clients/*/node_modules site .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is written last: an interrupted install is done again. `sync` also removes what is no longer required.
$(INSTALLED): requirements.txt requirements-dev.txt $(UV_LOCK) $(PYTHON_OF_VENV)
	@echo "installing the requirements into .venv"
	@{ $(PYTHON_OF_VENV) -m pip install -qq --disable-pip-version-check --require-hashes -r $(UV_LOCK) && \
	   $(UV) pip sync --quiet --python $(PYTHON_OF_VENV) --require-hashes requirements-dev.txt; } || \
	 { echo "uv could not do it; trying pip, which takes longer" && \
	   $(PYTHON_OF_VENV) -m pip install -qq --disable-pip-version-check --require-hashes -r requirements-dev.txt; }
	@touch $@

tests/clients/.environments/%/.installed: tests/clients/python/%.txt $(INSTALLED)
	@echo "installing $* for tests/clients"
	@$(PYTHON_OF_VENV) -m venv --clear --without-pip $(@D)
	@$(UV) pip sync --quiet --python $(@D)/bin/python --require-hashes $<
	@touch $@

# npm writes this file when it is done.
tests/clients/%/node_modules/.package-lock.json: tests/clients/%/package-lock.json
	@command -v npm > /dev/null || { echo "no npm: tests with programs for node will be skipped"; exit 0; }; \
	  echo "installing $* for tests/clients" && npm ci --prefix tests/clients/$* --ignore-scripts --no-audit --no-fund --loglevel=error

$(PYTHON_OF_VENV):
	@$(PYTHON) -c '' || \
	  { echo "$(PYTHON) cannot be run. Install CPython 3.11 to 3.14, or name one: make PYTHON=python3.12 install" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' || \
	  { echo "$(PYTHON) is $$($(PYTHON) --version 2>&1), but the requirements are locked for 3.11 to 3.14." >&2; \
	    echo "Name another one: make PYTHON=python3.12 install" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "$(PYTHON) cannot make a virtual environment: its ensurepip or venv module is missing." >&2; \
	    echo "On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "making .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv --clear .venv
