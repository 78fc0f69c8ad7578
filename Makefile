# Everything a developer runs. Needs GNU make and a Python from 3.10 to 3.12; `make help` lists the targets.

.DEFAULT_GOAL := help
.PHONY: help demo test lint lint-python lint-javascript docs notebooks bench peers lock clean force .venv .venv-numpy2
MAKEFLAGS += --no-print-directory

NUMPY2 := 2.2.6
PIP := 26.3
UV := 0.13.9

# The first Python that really runs and that the project supports. To choose: make PYTHON=/path/to/python
supported := -c 'import ensurepip, sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' 2>/dev/null
candidates := $(if $(PYTHON),$(PYTHON),python3.12 python3.11 python3.10 python3)
python = $(shell for p in $(candidates); do "$$p" $(supported) && echo "$$p" && break; done)
no_python = No Python 3.10, 3.11 or 3.12 with venv and pip among: $(candidates). Name one: make PYTHON=/path/to/python

# $(call setup,folder,what it takes,what pip installs): make an environment anew, by a pip that takes less time than
# Python's own. Rules write their stamp after it, so a folder that was left half made has none. --no-compile: Python
# compiles the few files that are imported by itself.
define setup
@echo "Setting up $(1) ($(2)) ..."
@rm -rf $(1)
@"$(or $(python),$(error $(no_python)))" -m venv $(1)
@$(1)/bin/python -m pip install -qq --disable-pip-version-check pip==$(PIP)
@$(1)/bin/python -m pip install -qq --disable-pip-version-check --no-compile $(3)
endef

# $(call stale,stamp): nothing if the environment's Python still runs, in the folder that its stamp names; else `force`,
# which makes it anew. (Environments hold absolute paths: a copied one is of no use.)
stale = $(shell $(dir $(1))bin/python $(supported) && grep -qxF '$(CURDIR)' $(1) 2>/dev/null || echo force)
stamp = @echo '$(CURDIR)' > $@

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9.-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

demo: .venv ## show the twins at work on a small model, offline
	@.venv/bin/gpt2 demo --picture build/attention.png

test: .venv .venv-numpy2 ## run the tests; after `make peers`, those against PyTorch too
	@.venv/bin/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

lint: lint-python lint-javascript ## check style, types and who imports whom

lint-python: .venv
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports --no-logo

lint-javascript: javascript-checks/node_modules/.stamp
	@.venv/bin/node javascript-checks/node_modules/eslint/bin/eslint.js --config javascript-checks/eslint.config.js \
		gpt2/lesson/page/scripts
	@.venv/bin/node javascript-checks/node_modules/typescript/bin/tsc --project javascript-checks

docs: .venv ## build the documentation, a site in build/docs
	@.venv/bin/sphinx-build -W --keep-going -q -E -b html docs build/docs
	@echo "build/docs/index.html"

notebooks: .venv ## write and run the lesson's notebooks
	@.venv/bin/gpt2 lesson --notebook docs/lesson.ipynb
	@.venv/bin/gpt2 lesson --notebook docs/zh-CN/lesson.ipynb --language zh
	@.venv/bin/jupyter execute --inplace docs/lesson.ipynb docs/zh-CN/lesson.ipynb

bench: .venv peers ## measure the engines against PyTorch
	@.venv/bin/python -m benchmarks.prefill
	@.venv/bin/python -m benchmarks.decode
	@.venv/bin/python -m benchmarks.train_step

.venv: .venv/.stamp ## set up the environment with everything that requirements.lock pins

peers: .venv-torch/.stamp ## set up .venv-torch, the PyTorch environment to compare with

.venv-numpy2: .venv-numpy2/.stamp-$(NUMPY2)

lock: .venv-lock/.stamp-$(UV) ## resolve pyproject.toml into requirements.lock (UPGRADE=--upgrade: newest versions)
	@.venv-lock/bin/uv pip compile --quiet --universal --python-version 3.10 --no-python-downloads --generate-hashes \
		--extra all --custom-compile-command 'make lock' $(UPGRADE) --output-file requirements.lock pyproject.toml

clean: ## remove caches and build output; environments stay
	@rm -rf build dist *.egg-info .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find . -path './.venv*' -prune -o -path ./.git -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +

.venv/.locked: requirements.lock $(call stale,.venv/.locked)
	$(call setup,.venv,about 3 minutes and 3 GB,--require-hashes -r requirements.lock)
	$(stamp)

.venv/.stamp: .venv/.locked pyproject.toml
	@.venv/bin/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	$(stamp)

# ESLint and TypeScript; the Node.js that runs them is in .venv. After a change to package.json:
# .venv/bin/npm install --package-lock-only --prefix javascript-checks
javascript-checks/node_modules/.stamp: javascript-checks/package.json javascript-checks/package-lock.json | .venv/.stamp
	@echo "Setting up javascript-checks/node_modules (a few seconds and 50 MB) ..."
	@.venv/bin/npm ci --loglevel error --prefix javascript-checks > /dev/null
	$(stamp)

.venv-torch/.pinned: benchmarks/peers/torch-requirements.txt $(call stale,.venv-torch/.pinned)
	$(call setup,.venv-torch,a few minutes; 1.2 GB with a CPU build of torch,-r benchmarks/peers/torch-requirements.txt)
	$(stamp)

# After .venv, because two installations at once would write to the same build folder.
.venv-torch/.stamp: .venv-torch/.pinned pyproject.toml | .venv/.stamp
	@.venv-torch/bin/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	$(stamp)

.venv-numpy2/.stamp-$(NUMPY2): $(call stale,.venv-numpy2/.stamp-$(NUMPY2))
	$(call setup,.venv-numpy2,NumPy $(NUMPY2) alone,numpy==$(NUMPY2))
	$(stamp)

.venv-lock/.stamp-$(UV): $(call stale,.venv-lock/.stamp-$(UV))
	$(call setup,.venv-lock,uv $(UV),uv==$(UV))
	$(stamp)
