"""Where an archive is and who asks: the address of a DICOMweb service, with credentials that are never shown."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from gfscreen.errors import UsageError

SCHEME_PREFIX = "dicomweb+"
PASSWORD_VARIABLE = "GFSCREEN_PACS_PASSWORD"


@dataclass(frozen=True)
class ArchiveAddress:
    """url: http(s)://HOST[:PORT]/PATH of the service. ca: certificates to trust, None: the system's. Shown without
    user and password.
    """

    url: str
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    ca: str | None = None


def archive_address(
    url: str, user: str | None = None, password_file: Path | None = None, ca: Path | None = None
) -> ArchiveAddress:
    """The address of `http(s)://...` or `dicomweb+http(s)://...`.

    The password of `user` is the first line of `password_file`, else the value of GFSCREEN_PACS_PASSWORD. Raises
    UsageError, also for a password inside the URL, which logs and process lists would show.
    """
    plain = url.removeprefix(SCHEME_PREFIX)
    parts = urlsplit(plain)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{parts.scheme or 'no scheme'}: expected http://HOST/PATH or https://HOST/PATH of DICOMweb")
    if parts.username or parts.password:
        raise UsageError(
            f"{parts.scheme}://{parts.hostname}: holds a user or password; use --user and {PASSWORD_VARIABLE} instead"
        )
    if ca is not None and not ca.is_file():
        raise UsageError(f"{ca}: no such file; --ca takes certificates in PEM")
    password = _password(user, password_file)
    return ArchiveAddress(plain.rstrip("/"), user, password, None if ca is None else str(ca))


def _password(user: str | None, file: Path | None) -> str | None:
    if user is None:
        if file is not None:
            raise UsageError(f"--password-file {file}: whose? add --user")
        return None
    if file is not None:
        try:
            return file.read_text(encoding="utf-8").split("\n", 1)[0].rstrip("\r")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{file}: the password cannot be read ({error}); check --password-file") from error
    password = os.environ.get(PASSWORD_VARIABLE)
    if password is None:
        raise UsageError(f"--user {user}: no password; set {PASSWORD_VARIABLE} or add --password-file")
    return password
