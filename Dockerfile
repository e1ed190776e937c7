# The image of every process: `coordinator serve` with whatever roles it is given, or a participant.

FROM python:3.13.9-slim-bookworm AS build
WORKDIR /build
COPY requirements.lock ./
# Everything that the lock file names, and nothing that has another hash.
RUN pip download --no-cache-dir --require-hashes --only-binary=:all: --dest wheels --requirement requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY coordinator coordinator
# From here on nothing is fetched: pip takes from that folder what the package needs, and leaves what only tests need.
RUN pip install --no-cache-dir --no-index --find-links=wheels hatchling \
    && pip wheel --no-cache-dir --no-index --no-deps --no-build-isolation --wheel-dir=wheels .
RUN python -m venv --without-pip /opt/coordinator \
    && pip --python=/opt/coordinator/bin/python install --no-cache-dir --no-index --find-links=wheels coordinator

FROM python:3.13.9-slim-bookworm
RUN groupadd --gid=10001 coordinator \
    && useradd --uid=10001 --gid=coordinator --no-create-home coordinator \
    && install --directory --owner=coordinator --group=coordinator /data /snapshots
COPY --from=build /opt/coordinator /opt/coordinator
ENV PATH=/opt/coordinator/bin:$PATH PYTHONUNBUFFERED=1
USER coordinator
WORKDIR /data
EXPOSE 9070
# Without Kafka: one process with the log in a file. Mount a volume at /data.
CMD ["coordinator", "serve", "--data", "/data", "--listen", "0.0.0.0:9070"]
