#!/bin/sh
# Makes two stand-ins for the public python:3.11-slim-bookworm, for a machine that cannot pull images (Debian, root):
#   BASE         Debian 12 with Python 3.11 and nothing of this host in it: the base of the final image
#   EXPORT_BASE  the same with pip, this host's CA bundle, its pip settings and its folders of wheels: for the build stages
# Usage: host_base_image.sh [BASE [EXPORT_BASE]]; then make image BASE=... EXPORT_BASE=...
set -eu

base=${1:-gfscreen-base:bookworm}
export_base=${2:-gfscreen-export-base:bookworm}
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
root=$work/root

import() {
    tar --numeric-owner --xattrs -C "$root" -c . | docker import \
        --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8' \
        --change 'CMD ["python3"]' - "$1"
}

debootstrap --variant=minbase --include=ca-certificates,python3,python3-pip bookworm "$root" "$mirror" >"$work/log" 2>&1 || {
    tail -n 20 "$work/log" >&2
    exit 1
}

# What the public slim image leaves out as well; and this host's names.
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/* "$root"/var/cache/debconf/*-old \
    "$root"/usr/share/doc "$root"/usr/share/man "$root"/usr/share/info "$root"/usr/share/locale "$root"/usr/share/lintian \
    "$root"/etc/hostname "$root"/etc/resolv.conf "$root"/debootstrap
# As in the public image: `python`, and a pip that may install.
ln -sf /usr/bin/python3 "$root/usr/local/bin/python"
rm -f "$root/usr/lib/python3.11/EXTERNALLY-MANAGED"

# The final base first keeps its own CA bundle; pip and what came with it go, and come back from a copy for the other one.
cp -a "$root" "$work/with-pip"
chroot "$root" dpkg --purge --force-depends python3-pip python3-setuptools python3-pkg-resources python3-wheel \
    python3-distutils python3-lib2to3 >/dev/null
rm -rf "$root"/var/cache/debconf/*-old "$root"/var/lib/dpkg/*-old "$root"/var/log/*
import "$base"

root=$work/with-pip
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
python3 - "$root" <<'PYTHON'
"""The pip settings in force here, environment included, as the image's pip.conf; folders of wheels come along."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

root = Path(sys.argv[1])
listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], check=True, capture_output=True, text=True).stdout
settings: dict[str, str] = {}
for line in sorted(listed.splitlines(), key=lambda text: text.startswith(":env:")):
    key, _, value = line.partition("=")
    settings[key.rpartition(".")[2]] = ast.literal_eval(value)
# Indexes made of local files stay behind: too large for a layer, and only a faster way to the same packages.
extra = [url for url in settings.pop("extra-index-url", "").split() if not url.startswith("file:")]
if extra:
    settings["extra-index-url"] = " ".join(extra)
settings.pop("no-index", None)
# A file of this host, and what is installed is pinned anyway.
settings.pop("constraint", None)
settings["cert"] = "/etc/ssl/certs/ca-certificates.crt"
for folder in settings.get("find-links", "").split():
    if Path(folder).is_dir():
        shutil.copytree(folder, root / folder.lstrip("/"), dirs_exist_ok=True)
lines = ["[global]", *(f"{key} = {value}" for key, value in sorted(settings.items()))]
(root / "etc/pip.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")
PYTHON
import "$export_base"
