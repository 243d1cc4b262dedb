# Runs the testbed where only a container engine is at hand, and in a cluster. QEMU, the compilers and the guest come
# from the lock files into /var/cache/fastio (keep it in a volume), so they are the same bytes as everywhere else.
#
#   docker build --tag fastio .          (after `npm ci`; `npx fastio run --backend docker` does it by itself)
#   docker run --rm --volume fastio-cache:/var/cache/fastio --volume "$PWD/results:/results" \
#       fastio run echo --out /results/first
ARG BASE=debian:trixie-slim
FROM ${BASE}
RUN export DEBIAN_FRONTEND=noninteractive \
 && apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates nodejs tar tini xz-utils \
 && rm --recursive --force /var/lib/apt/lists/*
COPY . /opt/fastio/
RUN ln --symbolic /opt/fastio/dist/cli/main.js /usr/local/bin/fastio \
 && chmod 0755 /opt/fastio/dist/cli/main.js \
 && mkdir --parents /var/cache/fastio /run/fastio
ENV FASTIO_CACHE=/var/cache/fastio FASTIO_RUN_DIR=/run/fastio
ENTRYPOINT ["tini", "--", "fastio"]
