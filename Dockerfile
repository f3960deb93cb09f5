# One image for every role: `web`, `worker`, `watcher`, `beat` are commands of manage.py. See docker-compose.yml.
FROM debian:12-slim AS base
ENV DEBIAN_FRONTEND=noninteractive LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 libvirt0 openssh-client netcat-openbsd ca-certificates qemu-utils tzdata \
    && rm -rf /var/lib/apt/lists/*

# libvirt-python comes as source: compiler and headers stay in this stage.
FROM base AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-venv python3-dev gcc libvirt-dev pkg-config
COPY requirements.lock /tmp/requirements.lock
RUN python3 -m venv /opt/venv && /opt/venv/bin/pip install --no-cache-dir --require-hashes --no-deps -r /tmp/requirements.lock

FROM base
RUN useradd --system --uid 10001 --home-dir /var/lib/vmmanager --create-home --shell /usr/sbin/nologin vmmanager \
    && install -d -o vmmanager -g vmmanager -m 0700 /var/lib/vmmanager /var/lib/vmmanager-key \
       /var/lib/vmmanager/uploads /var/lib/vmmanager/downloads /var/lib/vmmanager/staging
COPY --from=build /opt/venv /opt/venv
COPY . /app
RUN /opt/venv/bin/python -m compileall -q /app /opt/venv/lib
WORKDIR /app
USER vmmanager
ENV PATH=/opt/venv/bin:$PATH VMM_DATA_DIR=/var/lib/vmmanager VMM_LOCAL_HOST=none
EXPOSE 8000
ENTRYPOINT ["python", "manage.py"]
CMD ["web"]
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
