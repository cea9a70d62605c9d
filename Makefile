SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 24

venv: $(VENV)/.complete ## Python environment from requirements/dev.txt, with hashes
$(VENV)/.complete: requirements/dev.txt pyproject.toml
	@command -v python3 >/dev/null || { echo "python3 (3.11 or later) is needed" >&2; exit 1; }
	rm -rf $(VENV) && python3 -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --require-hashes --no-deps -r requirements/dev.txt
	$(VENV)/bin/pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

.PHONY: help venv

TESTBED := testbed/testbed
PYTEST := $(VENV)/bin/pytest
# Files of tests that run side by side: they wait more than they compute. 0 is one test after the other.
# A file stays in one worker, and with it the servers it started. A worker that crashes ends the run: with another in
# its place pytest would wait for ever for the crashed one's last file.
WORKERS ?= 2
SIDE_BY_SIDE = --numprocesses=$(WORKERS) --dist=loadfile --max-worker-restart=0

demo: venv ## from nothing to an archive that a modality outside the cluster uses (root)
	demo/demo

clean: ## end the demo: the local cluster with its data, and build/; with KUBECONFIG what the demo made there
	demo/demo clean

images: venv ## build all images
	images/build

images-push: venv ## build and push all images: make images-push REGISTRY=registry.example/pacs
	@test -n "$(REGISTRY)" || { echo "say where to: make images-push REGISTRY=registry.example/pacs" >&2; exit 2; }
	images/build --push "$(REGISTRY)"

docs: venv ## files made from code: docs/api.md, docs/conformance.md, tables, the chart's RBAC
	$(VENV)/bin/python tools/apidoc.py
	$(VENV)/bin/python tools/pages.py
	$(VENV)/bin/python tools/rbac.py

format: venv ## format the code
	$(VENV)/bin/ruff format . && $(VENV)/bin/ruff check --fix .

lint: venv shellcheck ## style, types, import rules, dependencies, scripts, secrets, served APIs
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(VENV)/bin/deptry .
	git grep --untracked -lzE '^#!/(usr/)?bin/(env )?(ba)?sh$$' -- ':!*.py' | xargs -0 shellcheck --external-sources --source-path=SCRIPTDIR
	$(VENV)/bin/python tools/treecheck.py
	$(VENV)/bin/python tools/crddiff.py --released

# no Python package, so not in the lock
shellcheck:
	@command -v shellcheck >/dev/null && exit; \
	echo "shellcheck is missing: installing its Debian package"; \
	apt-get install -y -q --no-install-recommends shellcheck || \
	{ apt-get update -q && apt-get install -y -q --no-install-recommends shellcheck; } || \
	{ echo "shellcheck is needed: install it by this system's own means" >&2; exit 1; }

# for the storage area under sanitizers; the image's is built in the image
compiler:
	@command -v g++ >/dev/null && test -e /usr/include/openssl/kdf.h && exit; \
	echo "g++ or OpenSSL's headers are missing: installing their Debian packages"; \
	apt-get install -y -q --no-install-recommends g++ make libssl-dev || \
	{ apt-get update -q && apt-get install -y -q --no-install-recommends g++ make libssl-dev; } || \
	{ echo "g++, make and libssl-dev are needed: install them by this system's own means" >&2; exit 1; }

# the second DICOM stack that tests speak; in no image. pynetdicom has an echoscu as well, and no dcmdump
dcmtk:
	@command -v dcmdump >/dev/null && exit; \
	echo "DCMTK is missing: installing its Debian package"; \
	apt-get install -y -q --no-install-recommends dcmtk || \
	{ apt-get update -q && apt-get install -y -q --no-install-recommends dcmtk; } || \
	{ echo "DCMTK's programs are needed: install them by this system's own means" >&2; exit 1; }

.PHONY: compiler dcmtk demo clean images images-push docs format lint shellcheck

lock: ## resolve requirements anew (needs uv); one resolution, two subsets
	uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -q -o requirements/dev.txt
	uv pip compile pyproject.toml --extra operator -c requirements/dev.txt --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -q -o requirements/operator.txt
	uv pip compile pyproject.toml --extra agent --extra probes -c requirements/dev.txt --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -q -o requirements/tools.txt

manifests: ## namespace and chart as plain manifests, to apply after crds/: make manifests VALUES=my-values.yaml > pacs-operator.yaml
	@test -n "$(VALUES)" || { echo "say with which values: make manifests VALUES=my-values.yaml" >&2; exit 2; }
	@cat deploy/namespace.yaml && helm template pacs-operator charts/pacs-operator --namespace pacs-operator-system --values "$(VALUES)"

.PHONY: lock manifests

# Tests find the cluster's tools (kubectl, helm, bao) and the images' root file systems where these were built.
test: lint prepare test-unit test-process test-api test-cluster ## every tier; about an hour on a new machine, half of it when built

test-unit: venv shellcheck ## pure functions, golden files, simulated API
	$(PYTEST) $(SIDE_BY_SIDE) --junitxml=build/proof/unit.xml tests/domain tests/tools tests/render tests/engine tests/testbed

prepare: venv ## build what the other tiers run on: cluster binaries and images
	$(TESTBED) build
	images/build --rootfs

test-process: venv compiler dcmtk ## each process alone, against real OpenBao, HAProxy, Orthanc and PostgreSQL
	$(PYTEST) $(SIDE_BY_SIDE) --junitxml=build/proof/process.xml tests/vault tests/agent tests/gate tests/probes tests/images tests/storage tests/importer

test-api: venv ## schema, rules, admission and rights on a real API server
	$(PYTEST) --junitxml=build/proof/api.xml tests/apiserver

test-cluster: venv ## the demo on the local cluster, and what breaks in one
	$(PYTEST) --junitxml=build/proof/cluster.xml tests/cluster

test-long: test ## every scenario, sabotage and benchmark; writes docs/proof/<date>-<commit>.md
	$(PYTEST) --junitxml=build/proof/long.xml tests/testbed/cluster_checks.py tests/long
	$(MAKE) bench
	$(VENV)/bin/python tools/proof.py

# The first measure processes of their own and want the machine to themselves; the others measure the cluster.
# A broken limit ends no run: the result is kept, and the page of proof says what is broken.
bench: prepare ## the benchmarks that docs/proof lacks for this very code (root; stops and starts the local cluster)
	@lacking=$$($(VENV)/bin/python tools/proof.py --lacking gate storage dicomweb reencrypt scrub steady_state) || exit; \
	for name in $$lacking; do $(TESTBED) stop && $(VENV)/bin/python benchmarks/$$name.py || echo "$$name: not kept or not measured" >&2; done
	@lacking=$$($(VENV)/bin/python tools/proof.py --lacking apply_to_ready peer_effect) || exit; unset KUBECONFIG; \
	for name in $$lacking; do demo/demo && $(VENV)/bin/python benchmarks/$$name.py || echo "$$name: not kept or not measured" >&2; done

.PHONY: bench test test-unit prepare test-process test-api test-cluster test-long
