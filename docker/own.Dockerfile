# A cell's image with the packages that a matrix asks for (image: {requirements: [...]}).
ARG CELL_IMAGE

FROM ${CELL_IMAGE} AS build
ARG REQUIREMENTS
# Not empty: all from docker/wheels.
ARG NO_INDEX=
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
USER 0
COPY docker/constraints.txt docke[r]/wheels/*.whl /wheels/
WORKDIR /wheels
# The cell's image has no pip: one beside it installs what is missing into a folder apart, so that
# the layer below holds nothing else. The pins keep torch and numpy as they are.
RUN set -eu; \
    python3 -m venv /pip; \
    /pip/bin/pip --python /opt/venv/bin/python install --no-cache-dir --no-compile --prefix /opt/own \
        -c constraints.txt ${NO_INDEX:+--no-index --find-links .} ${REQUIREMENTS}; \
    python3 -m compileall -q -f -j 0 --invalidation-mode unchecked-hash /opt/own >/dev/null || true

FROM ${CELL_IMAGE}
COPY --from=build /opt/own /opt/venv
