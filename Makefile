# make help
.DEFAULT_GOAL := help
SHELL := /bin/bash

DAGSTER_PORT ?= 3000
MLFLOW_PORT ?= 5000
DATA ?= $(CURDIR)/data

export ML_ASSETS_DATA_DIR ?= $(DATA)
export ML_ASSETS_MLFLOW_UI_URL ?= http://127.0.0.1:$(MLFLOW_PORT)
export DAGSTER_HOME ?= $(DATA)/dagster
export UV_COMPILE_BYTECODE := 1
export MLFLOW_DISABLE_TELEMETRY := true
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION := false
export DO_NOT_TRACK := true

UV := $(shell command -v uv || echo .uv/bin/uv)
RUN := $(UV) run --frozen

.PHONY: help install demo up test lint typecheck clean

help: ## Show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

.uv/bin/uv:
	python3 -m venv .uv && .uv/bin/pip install --quiet uv

install: $(UV) ## Install everything from the lock, and prepare the data directory
	$(UV) sync --frozen --quiet
	@mkdir -p $(DAGSTER_HOME) && ln -sf $(CURDIR)/dagster.yaml $(DAGSTER_HOME)/dagster.yaml

demo: install ## Train, check, register and promote on the bundled samples; no server needed
	@$(RUN) python -m ml_assets.demo

up: install ## Dagster and MLflow on loopback; Ctrl-C stops both
	@$(RUN) mlflow server --host 127.0.0.1 --port $(MLFLOW_PORT) --workers 1 \
	    --backend-store-uri sqlite:///$(DATA)/mlflow/mlflow.db \
	    --artifacts-destination $(DATA)/mlflow/artifacts & mlflow=$$!; \
	trap "kill $$mlflow; wait $$mlflow" EXIT; \
	echo "Dagster: http://127.0.0.1:$(DAGSTER_PORT)   MLflow: http://127.0.0.1:$(MLFLOW_PORT)   Ctrl-C stops both"; \
	$(RUN) dagster dev --workspace workspace.yaml --host 127.0.0.1 --port $(DAGSTER_PORT)

test: install ## Run the whole test suite
	$(RUN) pytest

lint: install ## Check style
	$(RUN) ruff check . && $(RUN) ruff format --check .

typecheck: install ## Check types
	$(RUN) mypy

clean: ## Remove all data: runs, artifacts, models
	rm -rf $(DATA)
