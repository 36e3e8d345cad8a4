# The CUDA cell: Python, torch and numpy. The code under test is not in it: the
# launcher mounts that read-only, so that one image serves every version of it.
# CUDA's libraries come with torch's wheels, the driver from the host.
# Kept line by line beside cpu.Dockerfile.
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS build
# An index to take torch from, before docker/wheels and the default index.
ARG TORCH_INDEX=
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PYTHONDONTWRITEBYTECODE=1
# The wheels may be missing. A pattern may match nothing, but BuildKit wants the folder
# before its first wildcard to exist, so the wildcard comes in the first name.
COPY docker/constraints.txt docke[r]/wheels/*.whl /wheels/
WORKDIR /wheels
RUN python3 -m venv /opt/venv
# With TORCH_INDEX torch comes from there alone: pip ranks all its sources as one,
# so a build from another of them could win. The wheels would be another torch.
RUN set -eu; \
    add() { /opt/venv/bin/pip install --no-cache-dir --no-compile -c constraints.txt "$@"; }; \
    if [ -n "$TORCH_INDEX" ]; then \
        echo "torch from $TORCH_INDEX, the rest from the default index"; \
        add --no-deps --index-url "$TORCH_INDEX" torch; \
        add torch numpy; \
    elif ls ./*.whl >/dev/null 2>&1; then \
        echo "all from docker/wheels"; \
        add --no-index --find-links . torch numpy; \
    else \
        echo "all from the default index"; \
        add torch numpy; \
    fi
# A CPU build would install as well, and only fail on the GPU machine.
RUN /opt/venv/bin/python -c 'import sys, torch; print("torch", torch.__version__); torch.version.cuda or sys.exit("\
ERROR: this torch is built without CUDA. Empty docker/wheels if it holds a CPU build, \
or set TORCH_INDEX to the index of a PyTorch CUDA build.")'
# What no cell uses: pip, test programs and test suites. Torch's headers stay, torch.compile needs them.
# The byte code is never checked against its source: that start-up time would be measured.
# Some files are written for a newer Python and do not compile; the import below is the test.
RUN set -eu; site=$(/opt/venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))'); \
    /opt/venv/bin/pip uninstall --yes --quiet pip; \
    rm -rf "$site/torch/test" "$site"/torch/bin/*test* "$site"/torch/bin/*Test "$site"/torch/bin/protoc*; \
    for package in numpy sympy networkx mpmath setuptools; do \
        find "$site/$package" -type d -name tests -prune -exec rm -rf {} +; \
    done; \
    /opt/venv/bin/python -m compileall -q -f -j 0 --invalidation-mode unchecked-hash "$site" >/dev/null || true

FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="bench-cuda" \
      org.opencontainers.image.description="One benchmark cell on a CUDA GPU: Python, torch and numpy; the code is mounted"
# The user below has no entry in the password file, where torch looks for a name and a home.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    USER=bench \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=build /opt/venv /opt/venv
USER 65532:65532
WORKDIR /tmp
# After the pruning above, and as the user that the cells run as.
RUN python -c 'import torch, numpy; print("torch", torch.__version__, "CUDA", torch.version.cuda, "numpy", numpy.__version__)'
CMD ["python"]
