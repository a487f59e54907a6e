# One image for Lab, reports, the server of answers, its workers and the schedule; deploy/entrypoint.sh
# chooses. No secret is in it: passwords and keys come from the environment when a container starts.
#
# The base is pinned by its full version. Pin it by content too, once you have pulled and looked at it:
#   docker buildx imagetools inspect python:3.11.13-slim-bookworm   ->   FROM python:3.11.13-slim-bookworm@sha256:...
FROM python:3.11.13-slim-bookworm AS base
# libgomp1 is what LightGBM computes with; git keeps the ledgers of paper trading. Debian serves only the newest build of
# a package, so a version here would break the next build instead of repeating this one.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends git libgomp1 \
    && rm -rf /var/lib/apt/lists/*
# What is written goes to two places: /data is to be kept, /cache can be deleted.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PYTHONSAFEPATH=1 \
    HOME=/cache/home XDG_CACHE_HOME=/cache/xdg MPLCONFIGDIR=/cache/matplotlib NUMBA_CACHE_DIR=/cache/numba \
    JUPYTER_PLATFORM_DIRS=1 MLFLOW_DISABLE_TELEMETRY=true \
    QUANTLAB_ROOT=/opt/quantlab \
    QUANTLAB_RESEARCH_SIGNERS=/data/signers \
    QUANTLAB_RESEARCH_CACHE=/cache/results
WORKDIR /opt/quantlab

FROM base AS build
COPY requirements.lock ./
# The lock names every package, so nothing is resolved: the same lines as in scripts/install.sh.
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir "$(sed -n 's/^\(uv==[0-9.]*\).*/\1/p' requirements.lock)" \
    && /opt/venv/bin/uv pip install --no-cache --no-deps --compile-bytecode --python /opt/venv/bin/python \
        -r requirements.lock
COPY . .
# The kernels are compiled here, for half a minute at every start is too long; a processor of another kind compiles its own.
RUN /opt/venv/bin/uv pip install --no-cache --no-deps --compile-bytecode --python /opt/venv/bin/python -e . \
    && mkdir -p /cache/home /data/lake /data/runs \
    && ln -s /data/lake data/lake \
    && ln -s /data/runs reports/runs \
    && /opt/venv/bin/python scripts/compile.py \
    && /opt/venv/bin/python -m compileall -q quantlab

FROM base AS final
# A number and not a name, so that an orchestrator can see that it is not root.
RUN groupadd --gid 10001 quantlab && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /cache/home quantlab
COPY --from=build /opt/venv /opt/venv
COPY --from=build --chown=10001:10001 /opt/quantlab /opt/quantlab
COPY --from=build --chown=10001:10001 /cache /cache
COPY --from=build --chown=10001:10001 /data /data
USER 10001:10001
# 8321 the server, 8888 Lab.
EXPOSE 8321 8888
# Of the server; another role has no address to ask and is healthy while it runs.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 CMD ["sh", "/opt/quantlab/deploy/health.sh"]
ENTRYPOINT ["sh", "/opt/quantlab/deploy/entrypoint.sh"]
CMD ["serve"]
