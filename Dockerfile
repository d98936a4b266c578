# syntax=docker/dockerfile:1

FROM python:3.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY pyproject.toml README.md ./
COPY agentflow agentflow
RUN pip wheel --no-deps --wheel-dir /wheel . \
 && python -m venv /opt/agentflow \
 && /opt/agentflow/bin/pip install "agentflow[api,otel] @ file://$(echo /wheel/agentflow-*.whl)" \
 && /opt/agentflow/bin/pip uninstall --yes pip setuptools

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="agentflow" \
      org.opencontainers.image.description="Runs plans of agent work on Celery: claimed, supervised and audited in Postgres."
COPY --from=build /opt/agentflow /opt/agentflow
# New volumes take over the owner of the directory that they are mounted at.
RUN groupadd --gid 10001 agentflow \
 && useradd --uid 10001 --gid agentflow --no-create-home --home-dir /var/lib/agentflow --shell /usr/sbin/nologin agentflow \
 && install --directory --owner=agentflow --group=agentflow --mode=0700 \
    /var/lib/agentflow /var/lib/agentflow/content /var/lib/agentflow/audit
ENV PATH="/opt/agentflow/bin:$PATH" PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 AGENTFLOW_HOME=/var/lib/agentflow
WORKDIR /var/lib/agentflow
USER 10001:10001
CMD ["agentflow", "--help"]
