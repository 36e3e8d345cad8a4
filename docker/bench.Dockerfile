# All in one: a cell's image with the program and its report on top. Its cells are local processes.
ARG CELL_IMAGE

FROM ${CELL_IMAGE} AS build
# Not empty: all from docker/wheels.
ARG NO_INDEX=
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
USER 0
WORKDIR /packages
# What it needs before the program itself, which changes more often: this layer stays.
COPY pyproject.toml constraints.txt ./
COPY docker/constraints.txt docke[r]/wheels/*.whl docke[r]/wheels/bench/*.whl docker/
# The cell's image has no pip: one beside it installs what is missing into a folder apart. The pins
# keep torch and numpy as they are.
RUN set -eu; \
    python3 -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
print(*project["dependencies"], *project["optional-dependencies"]["report"], sep="\n")' >requirements.txt; \
    python3 -m venv /pip; \
    /pip/bin/pip --python /opt/venv/bin/python install --no-cache-dir --no-compile --prefix /opt/own \
        -c constraints.txt ${NO_INDEX:+--no-index --find-links docker} -r requirements.txt; \
    site=$(/pip/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib", vars={"base": "/opt/own"}))'); \
    find "$site" -type d -name tests -prune -exec rm -rf {} +; \
    /opt/venv/bin/python -m compileall -q -f -j 0 --invalidation-mode unchecked-hash /opt/own >/dev/null || true
COPY bench /opt/bench/bench
COPY docker/as-owner.sh /opt/bin/bench
# What the image tells of itself (bench/measure/packed.py): which image a cell runs in, and the
# commit, for there is no repository inside. Whoever it runs as can read it, whatever the clone's owner
# alone could.
ARG PACKED
RUN set -eu; \
    printf '%s\n' "$PACKED" >/opt/bench/packed.json; \
    /opt/venv/bin/python -m compileall -q -f --invalidation-mode unchecked-hash /opt/bench; \
    chmod -R a+rX /opt/bench; \
    chmod 755 /opt/bin/bench

FROM ${CELL_IMAGE}
USER 0
# A first process that passes signals on and buries orphans, as the program itself does not.
RUN set -eu; \
    apt-get update -q; \
    DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends tini; \
    rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/*
COPY --from=build /opt/own /opt/venv
COPY --from=build /opt/bin/bench /usr/local/bin/bench
COPY --from=build /opt/bench /opt/bench
ARG DEVICE
ARG VERSION
ARG COMMIT
LABEL org.opencontainers.image.title="bench:${DEVICE}" \
      org.opencontainers.image.description="A benchmark harness for models and optimizers, all in one" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${COMMIT}" \
      org.opencontainers.image.licenses="MIT"
# Caches, the record of interim looks among them, outlive the container beside its results.
ENV BENCH_CACHE=/work/results/.cache
WORKDIR /work
# It begins as root only to become the owner of /work: docker/as-owner.sh.
ENTRYPOINT ["tini", "--", "bench"]
CMD ["--help"]
