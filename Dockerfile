# One image a group, with what this group needs and no more: --build-arg GROUP=power.
# GROUP=core has no group's libraries: for the web server, the daemon, monitoring and MLflow.
FROM python:3.12-slim AS build
ARG GROUP=core
RUN pip install --no-cache-dir uv
WORKDIR /opt/ml_assets
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy
COPY pyproject.toml uv.lock README.md ./
RUN if [ "$GROUP" = core ]; then extra=server; else extra=$GROUP; fi \
    && uv sync --frozen --quiet --no-dev --no-install-project --extra "$extra"
COPY ml_assets ml_assets
RUN if [ "$GROUP" = core ]; then extra=server; else extra=$GROUP; fi \
    && uv sync --frozen --quiet --no-dev --extra "$extra"

FROM python:3.12-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 ml \
    && install -d -o ml /var/lib/ml_assets /var/lib/mlflow /opt/dagster
COPY --from=build /opt/ml_assets /opt/ml_assets
COPY deploy/dagster.yaml deploy/workspace.yaml alerts.yaml /opt/dagster/
USER ml
WORKDIR /opt/dagster
ENV PATH=/opt/ml_assets/.venv/bin:$PATH DAGSTER_HOME=/opt/dagster ML_ASSETS_DATA_DIR=/var/lib/ml_assets
