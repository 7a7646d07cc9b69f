# One image for every service, and one with the stand-in publisher beside them: the command chooses.
#
#   docker build --target services -t sluice .            gateway, collectors, reporter, migrations
#   docker build --target stand-in -t sluice-stand-in .   the stand-in publisher
#
# Bases are pinned by tag. Where a registry is at hand, pin their digests too: --build-arg PYTHON_IMAGE=…@sha256:…
ARG PYTHON_IMAGE=python:3.11-slim-bookworm
ARG RUST_IMAGE=rust:1.95-slim-bookworm

# --- the native module
FROM ${RUST_IMAGE} AS native
WORKDIR /build
COPY core/native/ ./
# It is built against the stable interface of Python 3.11: no interpreter is needed here.
RUN PYO3_NO_PYTHON=1 cargo build --release --locked

# --- the locked dependencies: wheels alone, each held to its hash
FROM ${PYTHON_IMAGE} AS dependencies
WORKDIR /build
COPY requirements.lock ./
RUN python -m venv --without-pip /opt/sluice \
 && pip --python /opt/sluice/bin/python install --no-cache-dir --no-deps --only-binary :all: --require-hashes -r requirements.lock

# --- what runs
FROM ${PYTHON_IMAGE} AS services
ARG VERSION=dev
LABEL org.opencontainers.image.title="sluice" org.opencontainers.image.version="${VERSION}"
RUN useradd --system --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin sluice
COPY --from=dependencies /opt/sluice /opt/sluice
WORKDIR /app
COPY core core
COPY sql sql
COPY gateway gateway
COPY collector collector
COPY reporter reporter
# For operators: sluice doctor, sluice dead-letters, sluice drain and so on, with the variables of the services.
COPY ops ops
COPY ops/sluice /opt/sluice/bin/sluice
COPY --from=native /build/target/release/lib_native.so core/_native.abi3.so
# Compiled now: the file system is read-only later, and every start would compile anew.
RUN rm -rf core/native/src core/native/.cargo core/native/*.toml core/native/Cargo.lock \
 && /opt/sluice/bin/python -m compileall -q core sql gateway collector reporter ops
# Addresses inside a container. Nothing is written but to /tmp, which may be a tmpfs.
ENV PATH=/opt/sluice/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    GATEWAY_HOST=0.0.0.0 GATEWAY_PORT=8080 \
    REPORTER_HOST=0.0.0.0 REPORTER_PORT=8081 \
    COLLECTOR_HOST=0.0.0.0 COLLECTOR_PORT=8082
USER 10001:10001
EXPOSE 8080 8081 8082
STOPSIGNAL SIGTERM
# Whichever of the three serves here. Orchestrators ask the one that they started.
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-m", "core.probe", "http://127.0.0.1:8080", "http://127.0.0.1:8081", "http://127.0.0.1:8082"]
CMD ["python", "-m", "gateway"]

# --- the publisher's load, for development and staging
FROM services AS stand-in
COPY bench bench
HEALTHCHECK NONE
CMD ["python", "-m", "bench.publisher"]

# Without --target: the services.
FROM services
