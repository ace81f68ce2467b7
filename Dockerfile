# The service as a small image: no compiler, no pip, no root. Nothing below / is written but /app/data
# (images, unless STORAGE_URL names a bucket) and /tmp: it runs with a read-only root and a tmpfs at /tmp.
#
#   docker build -t stable-diffusion-api .
#   docker run --rm --read-only --tmpfs /tmp --stop-timeout 330 -p 5002:5002 -v images:/app/data \
#     -e SD_WEBUI_URL=http://gpu:7860 stable-diffusion-api
#
# docs/deployment.md says more. To build the same image again pin the digest: python:3.13-slim-bookworm@sha256:…

FROM python:3.13-slim-bookworm AS requirements

WORKDIR /build
COPY requirements.txt .
# Wheels only: what would have to be compiled fails here, with its name, instead of asking for a compiler.
RUN python -m venv --without-pip /opt/venv \
 && python -m pip --python /opt/venv/bin/python install --no-cache-dir --disable-pip-version-check \
      --require-hashes --only-binary :all: -r requirements.txt

FROM python:3.13-slim-bookworm AS base

ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1

# Known by number to whoever mounts a volume: Kubernetes' fsGroup, chown.
RUN groupadd --gid 10001 service \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin service

COPY --from=requirements /opt/venv /opt/venv
WORKDIR /app

# A WebUI that paints without a model, to try everything else: docker build --target simulator
FROM base AS simulator

COPY simulator simulator
USER 10001:10001
EXPOSE 7860
CMD ["python", "-m", "simulator", "--host", "0.0.0.0", "--port", "7860"]

FROM base AS service

COPY stable_diffusion_api.py config.py config_types.py gunicorn.conf.py ./
COPY api api
COPY services services
COPY sd_client sd_client
COPY state state
COPY storage storage
COPY observability observability
COPY doctor doctor
COPY web web
# Bytecode now: the user who runs it may write nothing here.
RUN python -m compileall -q . \
 && install -d -o 10001 -g 10001 -m 750 data

USER 10001:10001
VOLUME ["/app/data"]
EXPOSE 5002
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request as web; web.urlopen('http://127.0.0.1:' + (os.environ.get('PORT') or '5002') + '/api/v1/ai/generation/health/live', timeout=4)"]
# Two workers, and HOST and PORT of the settings: gunicorn.conf.py is read because it lies here.
CMD ["gunicorn", "stable_diffusion_api:app"]
