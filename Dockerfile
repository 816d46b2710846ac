FROM python:3.12-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 make \
    && rm -rf /var/lib/apt/lists/* \
    && pip install --no-cache-dir uv \
    && useradd --create-home ml
USER ml
WORKDIR /home/ml/ml_assets
COPY --chown=ml . .
RUN make install
CMD ["make", "up"]
