"""A real Orthanc with its DICOMweb plugin, on a free port and an empty store of its own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import socketserver
import ssl
import subprocess
import threading
import time
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
USER, PASSWORD = "screener", "s3cret-of-tests"
START_S = 60.0


def orthanc_program() -> str:
    """Orthanc's path. Skips where it is not installed; with GFSCREEN_REQUIRE_ORTHANC=1 it fails."""
    found = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
    if found is None or not PLUGIN.is_file():
        message = "needs Orthanc with DICOMweb (Debian: apt-get install orthanc orthanc-dicomweb)"
        if os.environ.get("GFSCREEN_REQUIRE_ORTHANC") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Orthanc:
    """The server: `start` and `stop` it; what is stored stays."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.base = f"http://localhost:{self.port}"
        self.url = f"{self.base}/dicom-web"
        self._process: subprocess.Popen[bytes] | None = None
        settings = {
            "Name": "gfscreen-tests",
            "StorageDirectory": str(folder / "store"),
            "IndexDirectory": str(folder / "store"),
            "HttpPort": self.port,
            "DicomServerEnabled": False,
            "AuthenticationEnabled": True,
            "RegisteredUsers": {USER: PASSWORD},
            "Plugins": [str(PLUGIN)],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "orthanc.json").write_text(json.dumps(settings))

    def start(self) -> None:
        with (self.folder / "orthanc.log").open("ab") as log:
            command = [orthanc_program(), str(self.folder / "orthanc.json")]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.1)
        raise AssertionError((self.folder / "orthanc.log").read_text())

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
            self._process = None

    def ask(self, path: str, data: bytes | None = None):
        """An answer of Orthanc's own interface, not that of DICOMweb."""
        request = urllib.request.Request(f"{self.base}{path}", data=data)
        request.add_header("Authorization", "Basic " + b64encode(f"{USER}:{PASSWORD}".encode()).decode())
        with urllib.request.urlopen(request, timeout=60) as answer:
            content = answer.read()
        return json.loads(content) if answer.headers.get_content_type() == "application/json" else content

    def put(self, folder: Path) -> None:
        """Store every file of a folder."""
        for path in sorted(folder.iterdir()):
            self.ask("/instances", path.read_bytes())

    @property
    def instances(self) -> int:
        return int(self.ask("/statistics")["CountInstances"])

    def files(self, modality: str) -> list[bytes]:
        """The DICOM files of all series of a modality."""
        query = json.dumps({"Level": "Instance", "Query": {"Modality": modality}}).encode()
        return [self.ask(f"/instances/{one}/file") for one in self.ask("/tools/find", query)]


@contextmanager
def encrypted(port: int, certificate: Path) -> Iterator[int]:
    """TLS in front of a server on this machine, as a reverse proxy does it; the port that is encrypted.

    Orthanc 1.10 of Debian 12 crashes at the first handshake of its own.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            try:
                client = context.wrap_socket(self.request, server_side=True)
            except OSError:  # who does not trust the certificate hangs up
                return
            with client, socket.create_connection(("127.0.0.1", port)) as server:
                back = threading.Thread(target=_pump, args=(server, client), daemon=True)
                back.start()
                _pump(client, server)
                back.join(5)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as proxy:
        proxy.daemon_threads = True
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        yield proxy.server_address[1]
        proxy.shutdown()


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass
