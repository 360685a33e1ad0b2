# The README's two commands are `make demo` and `make test`; each sets itself up on a fresh machine.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# The versions that the repository's numbers were made with; any torch >= 2.6 works.
TORCH ?= torch==2.14.1 torchvision==0.29.1
TEST_ARGS ?=
# The longest tests first, so that no worker is left alone with one; ttsem's is the third, when its environment is there.
GPU_LONGEST := python_tests/triton_kernels/test_triton_compile.py python_tests/triton_kernels/test_triton_ttsem.py
GPU_TESTS ?= $(GPU_LONGEST) python_tests
BENCH_ARGS ?=

.PHONY: help install demo test bench bench-quick bench-audit lint format docs long-check gpu-check gpu-faults mutation mutation-sample wheel clean

help:  ## Show this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*## /\t/'

install: $(VENV)/installed  ## Make a virtual environment and install memkern into it, with everything the tests need

# Done again when a file that is compiled or that names a dependency has changed. The compiled library is built without
# torch: the build's own environment holds pybind11, cmake and ninja only.
$(VENV)/installed: pyproject.toml setup.py CMakeLists.txt $(shell find csrc -type f)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	$(BIN)/python -m pip install --quiet --no-deps lightly  # losses and heads; its dependencies are for its trainers
	touch $@

demo: install  ## Audit the encoders that ship on real images (under a minute after installation)
	$(BIN)/python -m memkern demo

test: install  ## Run every test
	$(BIN)/python -m pytest -n 2 --dist loadgroup $(TEST_ARGS)

$(VENV)/bench: $(VENV)/installed
	$(BIN)/python -m pip install --quiet -e '.[bench]'
	touch $@

bench: $(VENV)/bench  ## Time every op beside its peers; writes bench/results/
	$(BIN)/python -m pytest bench $(BENCH_ARGS)

bench-quick: $(VENV)/bench  ## The same on a few shapes, in a few minutes
	$(BIN)/python -m pytest bench --quick $(BENCH_ARGS)

bench-audit: $(VENV)/bench  ## Time an audit beside the released scripts' procedure and plain torch
	$(BIN)/python -m bench.bench_audit

$(VENV)/lint: $(VENV)/installed
	$(BIN)/python -m pip install --quiet -e '.[lint]'
	touch $@

lint: $(VENV)/lint  ## ruff, mypy --strict on memkern/, docstrings, who imports whom, clang-format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pydoclint memkern
	$(BIN)/lint-imports --no-cache
	$(BIN)/clang-format --dry-run --Werror $$(git ls-files 'csrc/*.h' 'csrc/*.cpp' 'csrc/*.cu' 'csrc/*.cuh' 'python_tests/*.cpp')

format: $(VENV)/lint  ## Put every file into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $$(git ls-files 'csrc/*.h' 'csrc/*.cpp' 'csrc/*.cu' 'csrc/*.cuh' 'python_tests/*.cpp')

$(VENV)/docs: $(VENV)/installed
	$(BIN)/python -m pip install --quiet -e '.[docs]'
	touch $@

docs: $(VENV)/docs  ## Build the documentation into build/docs/; warnings are errors, names that lead nowhere too
	$(BIN)/python -m sphinx -n -W --keep-going -q -b html docs build/docs

long-check: install  ## Run what takes minutes: every experiment of the lab at its smallest, audits that are killed
	$(BIN)/python -m pytest -m long -n 2 --dist loadgroup $(TEST_ARGS)

# One thread for each of the two workers: what waits for the other takes its processor. What is slow are the compilers:
# they run once, in the first worker that asks, and their objects stay in build/gpu/. ttsem's environment, which is
# large, is made beside the first tests; those that need it wait.
gpu-check: install  ## The ladder of checks that GPU kernels climb on a machine without a GPU
	$(BIN)/python python_tests/gpu_triton/run_ttsem.py --install-only & \
	OMP_NUM_THREADS=1 PYTHONPATH=python_tests $(BIN)/python -m pytest -m gpu_ladder -n 2 \
	  --dist loadgroup -p gpu.report $(GPU_TESTS) $(TEST_ARGS); status=$$?; wait; exit $$status

# Of the ladder, not of the kernels: 8 minutes of a processor.
gpu-faults: install  ## Plant faults in the GPU kernels; the rung that is named for each must find it
	-$(BIN)/python python_tests/gpu_triton/run_ttsem.py --install-only
	PYTHONPATH=python_tests $(BIN)/python -m pytest -m gpu_faults -n 2 --dist loadgroup -p gpu.report $(TEST_ARGS)

mutation: install  ## Plant faults in the ops; every one must turn the tests red (slow)
	$(BIN)/python python_tests/mutation/mutation.py

mutation-sample: install  ## The same with a few faults, drawn anew for every commit
	$(BIN)/python python_tests/mutation/mutation.py --quick 10 --seed $$(git rev-list --count HEAD)

# libgomp stays outside: a second OpenMP runtime beside torch's makes the two pools fight for the cores, which slows
# small kernels between torch calls, and torch, imported first, brings its own.
wheel: install  ## Build a wheel into dist/; with auditwheel installed, make it portable
	$(BIN)/python -m pip wheel --no-deps --wheel-dir dist .
	if $(BIN)/python -c 'import auditwheel' 2>/dev/null; then \
	  $(BIN)/python -m auditwheel repair --exclude libgomp.so.1 --wheel-dir dist/portable dist/memkern-*.whl; fi

clean:  ## Remove builds, not the virtual environment
	rm -rf build dist *.egg-info memkern/*.so .pytest_cache .mypy_cache .ruff_cache .hypothesis $(VENV)/installed
