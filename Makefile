# Everything the project needs goes into .venv here; nothing outside the checkout is changed.
.DEFAULT_GOAL := help
.PHONY: help setup demo install uninstall deb sbom test campaign check docs bench fuzz screenshots viewer
SHELL := /bin/bash
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
# The first Python that is new enough; `make PYTHON=/path/to/python …` chooses another one.
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c '$(NEW_ENOUGH)' >/dev/null 2>&1 && { echo $$p; break; }; done)
# Further arguments for pip and pytest: `make test ARGS="-k series -x"`.
PIP_ARGS ?=
ARGS ?=
# Test files that run at a time, in the order of their folders: the long ones, which have few tests, come first.
WORKERS ?= 2
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations=20
# The measurements that end within the hour, the short ones first; benchmarks/soak.py takes as long as it is told.
BENCHMARKS := startup overhead results inference intake intake_limit sent_again index_scale worklist after_outage audit retention scroll scrape drift report_reader

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

setup: $(VENV)/.dev ## Install the node and its development tools into .venv (again only when versions change)

demo: $(VENV)/.run ## Start the node, send sample studies, show what came back, keep serving; STUDY=folder sends yours
	@exec $(BIN)/dicom-node demo $(if $(STUDY),--study "$(STUDY)") $(ARGS)

install: ## Install the node as a service, without test tools (root); DESTDIR=folder builds the tree there
	@$(foreach name,DESTDIR PREFIX EXTRAS PIP_ARGS,$(if $($(name)),$(name)="$($(name))")) \
		$(if $(filter file,$(origin PYTHON)),,PYTHON="$(PYTHON)") deploy/install.sh install

uninstall: ## Remove the service (root); data and settings stay, and it says where
	@$(foreach name,DESTDIR PREFIX,$(if $($(name)),$(name)="$($(name))")) deploy/install.sh uninstall

deb: $(VENV)/.dev ## Make a Debian package of the service in build/, which installs without a network
	@PIP_ARGS="$(PIP_ARGS)" $(if $(EXTRAS),EXTRAS="$(EXTRAS)") $(if $(filter file,$(origin PYTHON)),,PYTHON="$(PYTHON)") \
		SBOM_PYTHON="$(abspath $(BIN)/python)" deploy/package.sh

sbom: $(VENV)/.dev ## Write what a service is made of to build/sbom.cdx.json (CycloneDX); SBOM_OF=folder names an installed one
	@$(if $(SBOM_OF),,$(MAKE) install DESTDIR="$(CURDIR)/build/service" PIP_ARGS="$(PIP_ARGS)")
	@$(BIN)/python -m tools.sbom "$(or $(SBOM_OF),build/service/opt/dicom-node/current)/bin/python" build/sbom.cdx.json
	@echo "Written: build/sbom.cdx.json"

test: $(VENV)/.dev ## Run all tests; without a peer such as Orthanc its tests are skipped and say why
	@$(PYTEST) $(ARGS)

campaign: $(VENV)/.dev ## Make in full the long proofs of which `make test` makes a sample (an hour or two)
	@if CAMPAIGN=1 $(PYTEST) -m campaign $(ARGS); then echo "Campaign: everything held."; \
		else echo "Campaign: FAILED, see the tests named above." >&2; exit 1; fi

check: $(VENV)/.dev ## Lint, format, types and one-way imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.dev ## Build the documentation as a site into build/docs; a warning or a broken link is an error
	$(BIN)/python -m sphinx -W --keep-going -q -E -c docs . build/docs
	@echo "Open build/docs/index.html"

bench: $(VENV)/.dev ## Measure on this machine (half an hour); ARGS=--quick only sees that the programs in benchmarks/ run
	@set -e; for name in $(BENCHMARKS); do echo "== $$name"; $(BIN)/python -m benchmarks.$$name $(ARGS); done

viewer: $(BIN)/python ## Fetch the OHIF viewer from npm (48 MB) into .node, for [viewer] ohif
	@$(BIN)/python -m tools.ohif

fuzz: $(VENV)/.dev ## Say ten minutes of mutated DICOM connections to the node; FUZZ_SECONDS=60 for less
	@FUZZ_SECONDS=$(or $(FUZZ_SECONDS),600) $(BIN)/python -m pytest -s tests/integration/test_fuzz_pdu.py $(ARGS)

screenshots: $(VENV)/.dev ## Make the pictures of results in docs/images again: runs the viewer tests and keeps what they saw
	@set -e; seen=$$(mktemp -d); trap 'rm -r "$$seen"' EXIT; \
		DICOM_NODE_SCREENSHOTS="$$seen" $(BIN)/python -m pytest tests/viewer $(ARGS); \
		$(BIN)/python -m tests.viewer.screenshots "$$seen"; $(BIN)/python -m tests.viewer.pictures; \
		$(BIN)/python -m tests.viewer.page_pictures

# --- the environment --------------------------------------------------------------------------------------------
# Two stamps: a demo needs no test tools, and whoever has those has all that a demo needs.

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing the node and its development tools into $(VENV) (a minute or two) ..."
	@$(BIN)/python -m pip install --quiet $(PIP_ARGS) --constraint constraints.txt --editable '.[inference,bundles,onnx,huggingface,dev]'
	@touch $(VENV)/.run $@

$(VENV)/.run: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing the node into $(VENV) (a minute or two) ..."
	@$(BIN)/python -m pip install --quiet $(PIP_ARGS) --constraint constraints.txt --editable '.[inference]'
	@touch $@

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed and was not found." \
		"Install it (apt install python3 python3-venv) or name it: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments." \
		"Install the missing part: apt install python3-venv" >&2; exit 1; }
	@test -f dicom_node/fhir/__init__.py || { echo "The links in dicom_node/ are missing: this checkout was made" \
		"without symbolic links. Clone again with: git clone -c core.symlinks=true" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
