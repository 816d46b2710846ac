# make help
.DEFAULT_GOAL := help
SHELL := /bin/bash

# What the environment does not say, settings.env does, as in ml_assets/__init__.py.
export ML_ASSETS_SETTINGS_FILE ?= settings.env
setting = $(shell sed -nE "s/^[[:space:]]*(export[[:space:]]+)?$(1)[[:space:]]*=[[:space:]]*//p" \
    "$(ML_ASSETS_SETTINGS_FILE)" | tail -n 1 | sed -E -e "s/^'([^']*)'.*/\1/" -e t \
    -e "s/^\"([^\"]*)\".*/\1/" -e t -e "s/[[:space:]]+\#.*//" -e "s/[[:space:]]+$$//")
settings := $(shell [ ! -f "$(ML_ASSETS_SETTINGS_FILE)" ] || \
    sed -nE 's/^[[:space:]]*(export[[:space:]]+)?([A-Za-z_][A-Za-z0-9_]*)[[:space:]]*=.*/\2/p' "$(ML_ASSETS_SETTINGS_FILE)")
ifneq ($(filter DAGSTER_HOME,$(settings)),)
$(error $(ML_ASSETS_SETTINGS_FILE): export DAGSTER_HOME instead, or set ML_ASSETS_DATA_DIR)
endif
$(foreach name,$(sort $(settings)),$(if $(filter undefined,$(origin $(name))),\
    $(eval export $(name) := $$(call setting,$(name)))))

export DAGSTER_PORT ?= 3000
export MLFLOW_PORT ?= 5000
ifneq ($(words $(ML_ASSETS_DATA_DIR)),$(if $(ML_ASSETS_DATA_DIR),1,0))
$(error ML_ASSETS_DATA_DIR=$(ML_ASSETS_DATA_DIR): a directory without spaces in its name)
endif
override ML_ASSETS_DATA_DIR := $(abspath $(or $(ML_ASSETS_DATA_DIR),data))
export ML_ASSETS_DATA_DIR
export DAGSTER_HOME ?= $(ML_ASSETS_DATA_DIR)/dagster
ifndef MLFLOW_TRACKING_URI
export ML_ASSETS_MLFLOW_UI_URL ?= http://127.0.0.1:$(MLFLOW_PORT)
endif
export UV_COMPILE_BYTECODE := 1
export MLFLOW_DISABLE_TELEMETRY := true
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION := false
export DO_NOT_TRACK := true

UV := $(shell command -v uv || echo .uv/bin/uv)
RUN := $(UV) run --frozen

.PHONY: help install demo up test lint typecheck audit clean

help: ## Show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

.uv/bin/uv:
	python3 -m venv .uv && .uv/bin/pip install --quiet uv

install: $(UV) ## Install everything from the lock, and prepare the data directory
	@$(UV) sync --frozen --quiet
	@$(RUN) python -m ml_assets.prepare
	@[ ! -e .env ] || echo ".env: Dagster's commands read it, over the environment, and make does not." \
	    "Settings belong in settings.env, Compose's secrets in deploy/secrets/compose.env."

demo: install ## Train, check, register and promote on the bundled samples; no server needed
	@$(RUN) python -m ml_assets.demo

up: install ## Dagster and MLflow on loopback; Ctrl-C stops both
	@echo "Dagster: http://127.0.0.1:$(DAGSTER_PORT)   MLflow: http://127.0.0.1:$(MLFLOW_PORT)   Ctrl-C stops both"
	@$(RUN) python -m ml_assets.up start || [ $$? -eq 130 ]

test: install ## Run the whole test suite
	$(RUN) pytest --numprocesses auto --dist loadfile

lint: install ## Check style
	$(RUN) ruff check . && $(RUN) ruff format --check .

typecheck: install ## Check types
	$(RUN) mypy

audit: install ## Compare what is locked with known vulnerabilities
	@$(UV) export --frozen --quiet --no-emit-project --no-hashes --output-file $(ML_ASSETS_DATA_DIR)/locked.txt >/dev/null
	@$(RUN) python -m ml_assets_tests.audit $(ML_ASSETS_DATA_DIR)/locked.txt

clean: ## Remove all data: runs, artifacts, models
	@if [ -e "$(ML_ASSETS_DATA_DIR)" ] && [ ! -e "$(ML_ASSETS_DATA_DIR)/dagster" ]; then \
	    echo "ML_ASSETS_DATA_DIR=$(ML_ASSETS_DATA_DIR) is no data directory of this project"; exit 1; fi
	rm -rf "$(ML_ASSETS_DATA_DIR)"
