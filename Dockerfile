# One image for every service, and one with the stand-in publisher beside them: the command chooses.
#
#   make images        builds both: sluice (gateway, collectors, reporter, migrations) and sluice-stand-in
#
# Base images are pinned by tag; docker-compose.yml says when the tags were looked up. Pin digests where a registry can
# confirm them: make images PYTHON_IMAGE=…@sha256:…
ARG PYTHON_IMAGE=python:3.11-slim-bookworm
ARG RUST_IMAGE=rust:1.97-slim-bookworm

# --- the native module
FROM ${RUST_IMAGE} AS native
WORKDIR /build
COPY core/native/ ./
# It is built against the stable interface of Python 3.11: no interpreter is needed here.
RUN PYO3_NO_PYTHON=1 cargo build --release --locked

# --- the locked dependencies: only wheels, each checked against its hash
FROM ${PYTHON_IMAGE} AS dependencies
WORKDIR /build
COPY requirements.lock ./
RUN python -m venv --without-pip /opt/sluice \
 && pip --python /opt/sluice/bin/python install --no-cache-dir --no-deps --only-binary :all: --require-hashes -r requirements.lock
# For operators: sluice doctor, sluice dead-letters, sluice drain and so on, with the variables of the services.
COPY ops/sluice /opt/sluice/bin/sluice
RUN chmod 755 /opt/sluice/bin/sluice

# --- the code as the image holds it: without the native module's sources, compiled, and readable whatever the modes of
#     the checkout are. The layers of this stage are not in the image.
FROM ${PYTHON_IMAGE} AS code
WORKDIR /app
COPY core core
COPY sql sql
COPY gateway gateway
COPY collector collector
COPY reporter reporter
COPY ops ops
# A list of what is wanted, by suffix: a secret or a cache that lies in one of these folders is not on it.
RUN find . -type f ! -name '*.py' ! -name '*.sql' ! -name '*.css' ! -name '*.html' ! -name '*.js' -delete \
 && find . -name '.?*' -prune -exec rm -rf {} + && find . -type d -empty -delete
COPY --from=native /build/target/release/lib_native.so core/_native.abi3.so
# The file system is read-only later: without compiled files each start would compile again.
RUN python -m compileall -q . && chmod -R u=rwX,go=rX .

FROM ${PYTHON_IMAGE} AS load
WORKDIR /app
COPY bench bench
RUN find . -type f ! -name '*.py' -delete && find . -type d -empty -delete
RUN python -m compileall -q . && chmod -R u=rwX,go=rX .

# --- what runs
FROM ${PYTHON_IMAGE} AS services
RUN useradd --system --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin sluice
COPY --from=dependencies /opt/sluice /opt/sluice
COPY --from=code /app /app
WORKDIR /app
# Addresses inside a container. Services write only to /tmp, which may be a tmpfs.
ENV PATH=/opt/sluice/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    GATEWAY_HOST=0.0.0.0 GATEWAY_PORT=8080 \
    REPORTER_HOST=0.0.0.0 REPORTER_PORT=8081 \
    COLLECTOR_HOST=0.0.0.0 COLLECTOR_PORT=8082
USER 10001:10001
EXPOSE 8080 8081 8082
STOPSIGNAL SIGTERM
# The one of the three that runs here. Compose and Kubernetes name its port.
HEALTHCHECK --interval=5s --timeout=10s --start-period=60s --retries=3 \
    CMD ["python", "-I", "-S", "core/probe.py", "http://127.0.0.1:8080", "http://127.0.0.1:8081", "http://127.0.0.1:8082"]
CMD ["python", "-m", "gateway"]
# Last: a new version shares every layer with the version before, as far as they are equal.
ARG VERSION=dev
LABEL org.opencontainers.image.title="sluice" org.opencontainers.image.version="${VERSION}"

# --- the publisher's load, for development and staging
FROM services AS stand-in
COPY --from=load /app/bench bench
HEALTHCHECK NONE
CMD ["python", "-m", "bench.publisher"]

# Without --target: the services.
FROM services
