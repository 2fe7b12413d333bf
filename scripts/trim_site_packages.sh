#!/bin/sh
# Drops from a site-packages folder what screening never loads. The CPU image is built with it; its container tests hold
# the rest to account. Usage: trim_site_packages.sh SITE_PACKAGES
set -eu

site=$1
test -d "$site/numpy" || {
    echo "trim_site_packages.sh: no numpy in $site; expected a site-packages folder" >&2
    exit 2
}

# Tests, headers, type stubs and what only a compiler or an installer reads.
find "$site" -type d \( -name tests -o -name include -o -name cmake \) -prune -exec rm -rf {} +
find "$site" -type f \( -name '*.pyi' -o -name '*.pxd' -o -name '*.pyx' -o -name '*.a' -o -name '*.h' \) -delete
rm -rf "${site:?}/bin"

# scipy: scipy.ndimage needs itself, scipy.special and the private parts.
if test -d "$site/scipy"; then
    for part in "$site"/scipy/*/; do
        case $(basename "$part") in
            _* | ndimage | special) ;;
            *) rm -rf "$part" ;;
        esac
    done
fi

# OpenVINO: a CPU plugin that reads its own format. The converters, the other devices and their kernel cache go;
# `import openvino` makes do without the converters by itself.
if test -d "$site/openvino"; then
    libs=$site/openvino/libs
    rm -rf "$site/openvino/tools" "$site/openvino/torch" "$site/openvino_telemetry"
    for name in tensorflow tensorflow_lite paddle onnx pytorch jax gguf; do
        rm -rf "$libs/libopenvino_${name}_frontend".so* "$site/openvino/frontend/$name"
    done
    rm -f "$libs"/libopenvino_intel_gpu_plugin.so "$libs"/libopenvino_intel_npu_plugin.so "$libs"/libopenvino_auto_plugin.so \
        "$libs"/libopenvino_auto_batch_plugin.so "$libs"/libopenvino_hetero_plugin.so "$libs"/libopenvino_c.so* "$libs"/cache.json
fi

# pydicom: headers and stored values; its dictionaries of structured reports and its example files are not needed.
if test -d "$site/pydicom"; then
    rm -rf "$site/pydicom/sr" "$site/pydicom/data/test_files" "$site/pydicom/data/charset_files"
fi
