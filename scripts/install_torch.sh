#!/bin/sh
# Installs torch: the CPU build where no NVIDIA driver answers, else the default (CUDA) build.
# Usage: install_torch.sh PYTHON [auto|cpu|cuda]
# TORCH_VERSION and TORCH_CPU_INDEX may be set; the index of CPU builds is asked only if the configured sources have none.
set -eu

python=$1
variant=${2:-auto}
version=${TORCH_VERSION:-2.13.0}
cpu_index=${TORCH_CPU_INDEX:-https://download.pytorch.org/whl/cpu}

if test "$variant" = auto; then
    if command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L >/dev/null 2>&1; then variant=cuda; else variant=cpu; fi
fi

install() {
    "$python" -m pip install --no-cache-dir --disable-pip-version-check --quiet "$@"
}

case $variant in
    cuda)
        echo "torch $version: NVIDIA driver found, default (CUDA) build"
        install "torch==$version"
        ;;
    cpu)
        echo "torch $version: no NVIDIA driver, CPU build"
        if test "$(uname -s)" = Linux; then
            install "torch==$version+cpu" 2>/dev/null || install --index-url "$cpu_index" "torch==$version+cpu"
        else
            install "torch==$version"
        fi
        ;;
    *)
        echo "install_torch.sh: expected auto, cpu or cuda, got $variant" >&2
        exit 2
        ;;
esac
