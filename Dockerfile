# Two images from one file:
#
#     docker build --target service  -t taskroute-service .     (CPU)
#     docker build --target training -t taskroute-training .
#     docker build --target service  -t taskroute-service:cuda --build-arg TORCH_INDEX= .
#
# BuildKit builds it (the default of current Docker; DOCKER_BUILDKIT=1 of an older one). The build
# machine's own pip configuration, for a mirror or a proxy: --secret id=pip,src=/etc/pip.conf
# docs/deployment.md has the rest.

# Python 3.11 and nothing else is needed of it. The final stages take it as it is.
ARG BASE_IMAGE=python:3.11-slim
# The same Python at the same place; may hold more, since nothing of it but /opt/venv is kept.
ARG BUILDER_IMAGE=${BASE_IMAGE}
# PyTorch's index of CPU builds. Empty: the package index's own build, which is for CUDA.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

# -- libraries: a virtual environment with what is pinned, and nothing of ours ------------------
FROM ${BUILDER_IMAGE} AS libraries

ARG TORCH_INDEX
# Instead of requirements.lock's version, where a driver or an index has another one.
ARG TORCH_VERSION=
# Extras of pyproject.toml that the service is to have, such as "remote".
ARG EXTRAS=

WORKDIR /build
RUN python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH \
    PIP_DISABLE_PIP_VERSION_CHECK=1

# Libraries first: a change of our sources or documents alone builds on top of this layer. pip reads
# the names from pyproject.toml, so a package of ours that is empty yet is enough.
COPY pyproject.toml requirements.lock ./
RUN if [ -n "$TORCH_VERSION" ]; then \
      sed -i "s/^torch==.*/torch==$TORCH_VERSION/" requirements.lock; \
    fi
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip,target=/root/.config/pip/pip.conf \
    mkdir -p model service training/builtin \
    && touch model/__init__.py service/__init__.py training/__init__.py \
      README.md LICENSE training/builtin/LICENSE \
    && pip install -c requirements.lock ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} setuptools ".${EXTRAS:+[$EXTRAS]}" \
    && pip uninstall -y taskroute

FROM libraries AS training-libraries
ARG TORCH_INDEX
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip,target=/root/.config/pip/pip.conf \
    pip install -c requirements.lock ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} '.[train]' \
    && pip uninstall -y taskroute

# -- the project, as one wheel for both images --------------------------------------------------
FROM libraries AS wheel
# Debian packages that the build needs: g++ compiles the kernels of model/native. Empty: without them.
ARG BUILD_PACKAGES=g++
RUN if [ -n "$BUILD_PACKAGES" ]; then \
      apt-get update \
      && apt-get install -y --no-install-recommends $BUILD_PACKAGES \
      && rm -rf /var/lib/apt/lists/*; \
    fi
COPY README.md LICENSE ./
COPY model model
COPY service service
COPY training training
RUN rm -rf build && pip wheel --no-deps --no-build-isolation --wheel-dir /wheels .

# Neither needs installers nor the headers to compile against PyTorch.
FROM libraries AS service-environment
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip install --no-deps --no-index /wheels/*.whl \
    && pip uninstall -y setuptools pip \
    && rm -rf /opt/venv/lib/python3*/site-packages/torch/include

FROM training-libraries AS training-environment
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip install --no-deps --no-index /wheels/*.whl \
    && pip uninstall -y pip \
    && rm -rf /opt/venv/lib/python3*/site-packages/torch/include

# -- what both images are -----------------------------------------------------------------------
FROM ${BASE_IMAGE} AS runtime

# By number, so that Kubernetes can tell that it is not root.
RUN mkdir /models && chown 10001:10001 /models
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp
WORKDIR /tmp
USER 10001:10001
VOLUME /models

# -- training: python -m training, and torchrun for several machines ----------------------------
FROM runtime AS training

COPY --from=training-environment /opt/venv /opt/venv
# matplotlib's font cache belongs to the temporary folder: the rest is read-only.
ENV MPLCONFIGDIR=/tmp/matplotlib
ENTRYPOINT ["python", "-m", "training"]
CMD ["--help"]

# -- service (the default target) ---------------------------------------------------------------
FROM runtime AS service

COPY --from=service-environment /opt/venv /opt/venv
COPY deploy/healthcheck.py /opt/healthcheck.py
ENV TASKROUTE_HOST=0.0.0.0 \
    TASKROUTE_PORT=8000 \
    TASKROUTE_REPOSITORY=/models
EXPOSE 8000
# Ready, rather than only live: what waits for `healthy` is going to send requests. On a busy
# machine PyTorch alone takes a minute to start: failures count after three; success, at once.
HEALTHCHECK --interval=5s --timeout=10s --start-period=180s --retries=3 \
  CMD ["python", "-I", "-S", "/opt/healthcheck.py"]
# The process itself is told by SIGTERM: no shell in between.
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "service"]
