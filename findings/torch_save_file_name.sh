#!/bin/sh
# torch.save writes the name of the file into the file: the same weights under another name have another sha256.
#
# Guess:     the bytes depend on what is saved; copying epoch_9.pt to best.pt and saving the same state as best.pt give
#            the same file.
# Behaviour: every entry of the archive lies in a folder named as the file without its suffix: "a.pt" and "b.pt" differ,
#            and a longer name makes a larger file. Under one name, or to a stream, files are equal.
# Versions:  torch 2.13.0. Seen on 2026-11-28.
# Why:       checkpoints that are compared, cached or deduplicated by their checksum differ though nothing was learnt in
#            between. Compare tensors, or what a stream gets.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$work/env/bin/python" - "$work" <<'PYTHON'
import io
import sys
import zipfile
from pathlib import Path

import torch

STATE = {"weight": torch.ones(3)}
folder = Path(sys.argv[1])
files = {}
for name in ("a.pt", "b.pt", "a_much_longer_name_than_that.pt"):
    torch.save(STATE, folder / name)
    files[name] = (folder / name).read_bytes()
    with zipfile.ZipFile(folder / name) as archive:
        print(f"{name}: {len(files[name])} bytes, first entry {archive.namelist()[0]}")
again = folder / "again"
again.mkdir()
torch.save(STATE, again / "a.pt")
assert (again / "a.pt").read_bytes() == files["a.pt"]
assert files["a.pt"] != files["b.pt"], "it has changed"
assert len(files["a_much_longer_name_than_that.pt"]) > len(files["a.pt"]), "it has changed"
streams = []
for _ in range(2):
    stream = io.BytesIO()
    torch.save(STATE, stream)
    streams.append(stream.getvalue())
assert streams[0] == streams[1]
PYTHON
