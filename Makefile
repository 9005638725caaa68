# Two commands for a fresh machine with Python 3.11 to 3.13 and make:
#   make quickstart                 from images to a fine-tuned classifier, through Ray
#   make quickstart IMAGES=FOLDER   the same on your own images (a folder per class; a path or s3://bucket/prefix)
#   make test                       the whole test suite (ARGS='tests/shards -x' for a part of it)
# For work on the code: make lint (style and types), make reference (docs/reference.md from the config models)
PYTHON ?= python3
unexport PYTHONDONTWRITEBYTECODE  # else each of many processes compiles the package and the tests anew
VENV   := .venv
PIP    := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint cluster/constraints.txt

.PHONY: help quickstart test lint reference clean

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | head -5

quickstart: $(VENV)/.installed
	$(VENV)/bin/seit-ray quickstart $(if $(IMAGES),images=$(IMAGES)) $(ARGS)

test: $(VENV)/.installed-test
	$(VENV)/bin/python -m pytest -n 3 --dist loadscope $(ARGS)

lint: $(VENV)/.installed-test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

reference: $(VENV)/.installed
	$(VENV)/bin/python -m seit_ray.verbs.command.reference > docs/reference.md

$(VENV)/.installed: pyproject.toml cluster/constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(not (3, 11) <= v[:2] <= (3, 13) and f"python {v[0]}.{v[1]}; expected 3.11 to 3.13; name one with make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	@echo "installing the pinned packages into $(VENV) (a few minutes, once)"
	$(PIP) --editable .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) --editable '.[test]'
	@touch $@

clean:
	rm -rf $(VENV) runs
