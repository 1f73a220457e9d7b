# Everything a fresh machine needs, by one command each; `make` alone lists them. Needs make and Python >= 3.12.
# Used where they are found: uv (faster than pip), pyenv (for a Python).

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all test-gpu-compile libtpu lint lock clean
.DELETE_ON_ERROR:

PY := .venv/bin/python
READY := .venv/.ready
TESTS := $(PY) -m pytest -n 2
# pyright runs on the Node.js of its own wheel and from its own bundle: nothing is downloaded when it starts.
PYRIGHT := PYRIGHT_PYTHON_GLOBAL_NODE=0 PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(PY) -m pyright

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' Makefile
	@echo 'Arguments go into ARGS="...", another interpreter into PYTHON=path.'

setup: $(READY) ## install vidrec and its locked dependencies into .venv
	@echo 'Ready: .venv/bin/vidrec --help'

demo: $(READY) ## videos -> trained, evaluated networks, in runs/demo
	.venv/bin/vidrec demo --workdir runs/demo $(ARGS)

test: lint ## lint, then all tests but the slow ones
	$(TESTS) $(ARGS)

test-all: $(READY) .venv/.libtpu ## the slow tests; they compile for TPUs, with libtpu (200 MB)
	$(TESTS) -m slow $(ARGS)

test-gpu-compile: build/gpu/.ready ## compile the GPU kernels to machine code, without a GPU (needs ptxas)
	build/gpu/bin/python -m pytest --noconftest -p no:cacheprovider tests/ops/correlation/test_gpu_compile.py $(ARGS)

lint: $(READY) ## style, types, and which module may import which
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PYRIGHT)
	$(PY) -c 'from importlinter.cli import lint_imports_command as run; run()' --no-logo

clean: ## remove .venv, caches and build products; runs/ stays
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist
	find vidrec tests configs experiments -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# ---- environment ------------------------------------------------------------------------------------------------

# Sets $py to PYTHON or the first usable interpreter: a name on PATH, else one that pyenv has (its shims may be
# switched to an older version). It must be able to make environments, which Debian packages separately.
define FIND_PYTHON
usable() { "$$1" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1; }; \
py=; \
if [ -n "$(PYTHON)" ]; then \
	usable "$(PYTHON)" || { echo 'PYTHON=$(PYTHON) is not a Python >= 3.12 with venv; give another.' >&2; exit 1; }; \
	py="$(PYTHON)"; \
else \
	for candidate in python3.12 python3.13 python3.14 python3 python \
		"$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/3.1[2-9]*/bin/python; do \
		if usable "$$candidate"; then py="$$candidate"; break; fi; \
	done; \
fi
endef

define NO_PYTHON
echo 'vidrec needs Python 3.12 or newer, and none was found on PATH or in pyenv.' >&2; \
echo 'Install one (Debian and Ubuntu: python3.12 python3.12-venv; macOS: brew install python@3.12;' >&2; \
echo 'anywhere: pyenv install 3.12, or uv) or name one: make PYTHON=/path/to/python' >&2; \
exit 1
endef

# The stamp is written last, so that an interrupted setup goes on where it was. A working .venv is kept and completed.
$(READY): requirements.lock pyproject.toml
	@set -e; uv=$$(command -v uv || true); \
	if ! $(PY) -c 'import sys; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1; then \
		$(FIND_PYTHON); \
		if [ -n "$$uv" ]; then \
			echo "Making .venv with uv"; \
			"$$uv" venv --quiet --clear --python "$${py:-3.12}" .venv || { $(NO_PYTHON); }; \
		elif [ -n "$$py" ]; then \
			echo "Making .venv with $$py"; \
			"$$py" -m venv --clear .venv; \
		else \
			$(NO_PYTHON); \
		fi; \
	fi; \
	echo 'Installing the packages of requirements.lock (about 1.4 GB on disk; minutes the first time)'; \
	if [ -n "$$uv" ]; then \
		"$$uv" pip install --python $(PY) --require-hashes -r requirements.lock; \
		"$$uv" pip install --python $(PY) --quiet --no-deps --no-build-isolation -e .; \
	else \
		$(PY) -m pip --version >/dev/null 2>&1 || $(PY) -m ensurepip >/dev/null; \
		pip="$(PY) -m pip --disable-pip-version-check --no-input install --quiet"; \
		$$pip --require-hashes -r requirements.lock; \
		$$pip --no-deps --no-build-isolation -e .; \
	fi; \
	touch $@

libtpu: .venv/.libtpu ## install the TPU's compiler (200 MB), for `vidrec compile`

# It runs on any Linux machine, and is too large to be everybody's dependency.
.venv/.libtpu: $(READY)
	$(PY) -m pip --version >/dev/null 2>&1 || $(PY) -m ensurepip >/dev/null
	$(PY) -m pip --disable-pip-version-check --no-input install --quiet libtpu==0.0.51
	touch $@

# JAX's compiler for NVIDIA GPUs without NVIDIA's libraries, in an environment of its own: with it, JAX would look for a
# GPU in every other test. ptxas is part of the CUDA toolkit.
JAX := $(shell sed -n 's/^jax==\([^ ]*\).*/\1/p' requirements.lock)
build/gpu/.ready: $(READY)
	@command -v ptxas >/dev/null || { echo 'ptxas is not on PATH: install the CUDA toolkit (13.0 or newer).' >&2; exit 1; }
	$(PY) -m venv --clear build/gpu
	build/gpu/bin/python -m pip --disable-pip-version-check --no-input install --quiet \
		jax==$(JAX) jaxlib==$(JAX) numpy pytest hypothesis jaxtyping
	build/gpu/bin/python -m pip --disable-pip-version-check --no-input install --quiet --no-deps \
		jax-cuda13-plugin==$(JAX) jax-cuda13-pjrt==$(JAX)
	touch $@

# ---- requirements.lock ------------------------------------------------------------------------------------------

# All versions with hashes, for every system and Python vidrec runs on; without the address they came from, which is
# each machine's own setting. Versions stay as they are where they still fit: make lock ARGS=--upgrade renews them.
lock: ## renew requirements.lock from pyproject.toml (ARGS=--upgrade: newest versions)
	@set -e; mkdir -p build; uv=$$(command -v uv || true); \
	if [ -z "$$uv" ]; then \
		uv=build/uv/bin/uv; \
		if [ ! -x $$uv ]; then \
			$(FIND_PYTHON); [ -n "$$py" ] || { $(NO_PYTHON); }; \
			"$$py" -m venv --clear build/uv; build/uv/bin/python -m pip install --quiet uv; \
		fi; \
	fi; \
	if [ -f requirements.lock ]; then cp requirements.lock build/requirements.lock; fi; \
	"$$uv" pip compile --quiet --universal --python-version 3.12 --generate-hashes --no-emit-index-url \
		--no-emit-find-links --extra video --extra log --extra dev --custom-compile-command 'make lock' \
		--output-file build/requirements.lock $(ARGS) pyproject.toml >/dev/null; \
	if grep -nE '://|^-|@ file' build/requirements.lock >&2; then \
		echo 'The lines above name an address or an option; requirements.lock was left as it was.' >&2; exit 1; \
	fi; \
	mv build/requirements.lock requirements.lock; \
	echo "requirements.lock: $$(grep -c == requirements.lock) packages"
