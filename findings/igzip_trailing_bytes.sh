#!/bin/sh
# isal's igzip calls a .nii.gz with bytes behind its end "ended before the end-of-stream marker", though nothing is missing.
#
# Guess:     igzip is a drop-in for gzip: for bytes behind a complete stream it raises what gzip raises, BadGzipFile.
# Behaviour: gzip says BadGzipFile, "Not a gzipped file (b'pa')". igzip says EOFError, "Compressed file ended before the
#            end-of-stream marker was reached", the words for a file that was cut short. Zeros behind the end are let
#            pass by both. Every byte of the scan had been read.
# Versions:  isal 1.9.1, Python 3.11. Seen on 2026-11-28.
# Why:       copies padded by storage or by an upload form are common. Whoever reads "ended before" fetches the scan
#            again, in vain, or looks for a lost part; the file is too long, not too short.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check isal==1.9.1
"$work/env/bin/python" - "$work" <<'PYTHON'
import gzip
import sys
from pathlib import Path

from isal import igzip

scan = bytes(range(256)) * 4000
whole = gzip.compress(scan)


def said(opener, tail):
    path = Path(sys.argv[1], "scan.nii.gz")
    path.write_bytes(whole + tail)
    try:
        with opener(path) as stream:
            return "read" if stream.read() == scan else "other bytes"
    except (OSError, EOFError) as error:
        return f"{type(error).__name__}: {error}"


for name, opener in (("gzip", gzip.open), ("igzip", igzip.open)):
    print(f"{name:6} zeros: {said(opener, bytes(512))}   padding: {said(opener, b'padding')}")
assert said(gzip.open, b"padding").startswith("BadGzipFile: Not a gzipped file")
assert said(igzip.open, b"padding").startswith("EOFError: Compressed file ended before"), "it has changed"
assert said(igzip.open, bytes(512)) == said(gzip.open, bytes(512)) == "read"
PYTHON
