"""Files that are damaged, are something else, or have names that somebody did not think of."""

from __future__ import annotations

import bz2
import gzip
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813 - the field's usual name

from eval.reliability.torture.case import AFFINE, SHAPE, TortureCase, Truth, scan
from eval.reliability.torture.patient import paint
from eval.reliability.torture.store import content, header, save

Change = Callable[[bytes], bytes]
_KEPT_APART = "elsewhere"


def _raw() -> tuple[bytes, Truth]:
    hu, truth = paint(SHAPE, AFFINE)
    return content(header(SHAPE, np.int16, AFFINE), hu), truth


def _changed(change: Change, check: bool = False) -> Callable[[Path], Truth]:
    """A good uncompressed file, changed into the bytes that are written."""

    def make(path: Path) -> Truth:
        data, truth = _raw()
        path.write_bytes(change(data))
        return truth if check else None

    return make


def _written(data: bytes) -> Callable[[Path], Truth]:
    return _changed(lambda _: data)


def _gz(data: bytes) -> bytes:
    return gzip.compress(data, 1, mtime=0)


def _flipped(data: bytes) -> bytes:
    packed = bytearray(_gz(data))
    packed[-6] ^= 0xFF  # in the checksum
    return bytes(packed)


def _in_two_members(data: bytes) -> bytes:
    return _gz(data[:20000]) + _gz(data[20000:])


def _zipped(path: Path) -> Truth:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("scan.nii", _raw()[0])
    return None


def damaged() -> Iterator[TortureCase]:
    """Cut, flipped, empty, or no image at all."""
    bomb = header((2000, 2000, 800), np.int16, AFFINE).binaryblock + bytes(4)
    png = b"\x89PNG\r\n\x1a\n" + bytes(500)
    cases: list[tuple[str, str, Callable[[Path], Truth], str]] = [
        ("gzip cut in half", "cut_0000.nii.gz", _changed(lambda d: _gz(d)[: len(_gz(d)) // 2]), "truncated or damaged"),
        ("gzip without its last byte", "lastbyte_0000.nii.gz", _changed(lambda d: _gz(d)[:-1]), "damaged"),
        ("checksum wrong", "checksum_0000.nii.gz", _changed(_flipped), "damaged"),
        ("plain file cut in half", "cutplain_0000.nii", _changed(lambda d: d[: len(d) // 2]), "truncated"),
        ("header only", "headeronly_0000.nii.gz", _changed(lambda d: _gz(d[:348])), "truncated"),
        ("half a header", "halfheader_0000.nii", _changed(lambda d: d[:200]), "ends after"),
        ("empty", "empty_0000.nii.gz", _written(b""), "empty"),
        ("empty once unpacked", "emptygz_0000.nii.gz", _written(_gz(b"")), "ends after"),
        ("text", "text_0000.nii.gz", _written(b"Please find attached the scan."), "expected a NIfTI"),
        ("a web page, packed", "html_0000.nii.gz", _written(_gz(b"<html>404</html>")), "expected a NIfTI"),
        ("a picture", "png_0000.nii.gz", _written(png), "expected a NIfTI"),
        ("a zip archive", "zip_0000.nii.gz", _zipped, "expected a NIfTI"),
        ("bzip2", "bz2_0000.nii.gz", _changed(bz2.compress), "expected a NIfTI"),
        ("gzip of gzip", "twice_0000.nii.gz", _changed(lambda d: _gz(_gz(d))), "expected a NIfTI"),
        ("zeros", "zeros_0000.nii.gz", _written(_gz(bytes(100_000))), "expected a NIfTI"),
        (
            "50 MB of zeros behind a header that asks for 6 GB",
            "bomb_0000.nii.gz",
            _written(_gz(bomb + bytes(50 << 20))),
            "",
        ),
    ]
    for title, name, make, says in cases:
        yield TortureCase("file", title, f"file-{name}", make, "error", says)
    for title, name, change in (
        ("gzip in two members", "members_0000.nii.gz", _in_two_members),
        ("plain NIfTI named .nii.gz", "plain_0000.nii.gz", lambda d: d),
        ("gzip named .nii", "packed_0000.nii", _gz),
        ("rubbish behind the voxels", "tail_0000.nii.gz", lambda d: _gz(d + b"rubbish" * 100)),
        ("zeros behind the gzip", "gzzeros_0000.nii.gz", lambda d: _gz(d) + bytes(512)),
        ("a comment and extra bytes between header and voxels", "between_0000.nii.gz", _with_extension),
    ):
        yield TortureCase("file", title, f"file-{name}", _changed(change, check=True))


def _with_extension(data: bytes) -> bytes:
    """A header extension of 1024 bytes, announced as the definition wants it."""
    head = header(SHAPE, np.int16, AFFINE, fields={"vox_offset": 352 + 1024})
    extension = (1024).to_bytes(4, "little") + (6).to_bytes(4, "little") + b"a comment".ljust(1016, b"\0")
    return _gz(bytes(head.binaryblock) + b"\1\0\0\0" + extension + data[352:])


def _image(path: Path) -> Truth:
    """A MetaImage or NRRD of the painted patient, written by SimpleITK."""
    hu, truth = paint(SHAPE, AFFINE)
    image = sitk.GetImageFromArray(hu.transpose(2, 1, 0))
    lps = np.diag([-1.0, -1.0, 1.0]) @ AFFINE[:3]
    spacing = np.linalg.norm(lps[:, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:, 3].tolist())
    sitk.WriteImage(image, str(path), useCompression=path.name.startswith("itk-packed"))
    return truth


def _damaged_image(change: Change) -> Callable[[Path], Truth]:
    def make(path: Path) -> Truth:
        _image(path)
        path.write_bytes(change(path.read_bytes()))
        return None

    return make


def itk_files() -> Iterator[TortureCase]:
    """MetaImage and NRRD, good and damaged, and headers that point elsewhere."""
    for name in ("itk-plain.mha", "itk-packed.mha", "itk-plain.nrrd", "itk-packed.nrrd"):
        stem, _, kind = name.partition(".")
        file = f"{stem}-{kind}_0000.{kind}"
        yield TortureCase("MetaImage and NRRD", name, file, _image, mask=f"{stem}-{kind}.nii.gz")
    elsewhere = b"data file: /etc/hostname\n"
    decoy = b"elementdatafile = LOCAL\n"
    comment = b"# " + b"x" * 70000 + b"\n"
    bad: list[tuple[str, str, Callable[[Path], Truth], str]] = [
        ("MetaImage cut", "cut.mha", _damaged_image(lambda d: d[: len(d) // 2]), ""),
        ("MetaImage whose data lie elsewhere", "other.mha",
         _damaged_image(lambda d: d.replace(b"LOCAL", b"/etc/hostname")), "another file"),
        ("the same behind a decoy", "decoy.mha",
         _damaged_image(lambda d: decoy + d.replace(b"= LOCAL", b"= /etc/hostname")), "another file"),
        ("MetaImage of one and a half lines", "text.mha", _written(b"ObjectType = Image\nNDims"), ""),
        ("NRRD cut", "cut.nrrd", _damaged_image(lambda d: d[: len(d) // 2]), ""),
        ("NRRD whose data lie elsewhere", "other.nrrd",
         _damaged_image(lambda d: d.replace(b"encoding:", elsewhere + b"encoding:")), "another file"),
        ("the same behind 64 KB of comment", "decoy.nrrd",
         _damaged_image(lambda d: d.replace(b"encoding:", comment + elsewhere + b"encoding:")), "65536"),
        ("NRRD with damaged gzip data, on which ITK crashes", "gzip.nrrd",
         _written(_crasher()), ""),
    ]  # fmt: skip
    for title, name, make, says in bad:
        stem, _, kind = name.partition(".")
        file = f"itkbad-{stem}-{kind}_0000.{kind}"
        yield TortureCase("MetaImage and NRRD", title, file, make, "error", says, mask=f"itkbad-{stem}-{kind}.nii.gz")


def _crasher() -> bytes:
    """What the fuzzer found: a gzip stream whose first bytes are gone."""
    from eval.reliability.fuzz.seeds import nrrd

    data = nrrd("gzip")
    start = data.index(b"\n\n") + 2
    return data[:start] + b"\x0bT8X\x06" + data[start + 12 :]


def _as_folder(path: Path) -> Truth:
    path.mkdir()
    save(path / "slice.nii.gz", paint(SHAPE, AFFINE)[0], AFFINE)
    return None


def _linked(path: Path) -> Truth:
    """A link to a scan that lies outside the input folder."""
    target = path.parent.parent / _KEPT_APART / path.name
    target.parent.mkdir(exist_ok=True)
    truth = scan()(target)
    path.symlink_to(target)
    return truth


def _read_only(path: Path) -> Truth:
    truth = scan()(path)
    path.chmod(0o444)
    return truth


def _pipe(path: Path) -> Truth:
    os.mkfifo(path)
    return None


def entries() -> Iterator[TortureCase]:
    """Entries of the folder that are not plain files, or not writable."""
    yield TortureCase("entry", "a link to a scan elsewhere", "entry-link_0000.nii.gz", _linked)
    yield TortureCase("entry", "a file that may only be read", "entry-readonly_0000.nii.gz", _read_only)
    bad: list[tuple[str, str, Callable[[Path], object], str]] = [
        ("a folder named like a scan", "folder", _as_folder, "found a folder"),
        ("a link to nothing", "dangling", lambda p: p.symlink_to("nowhere.nii.gz"), "no such file"),
        ("a link to itself", "loop", lambda p: p.symlink_to(p.name), ""),
        ("a link to a device", "device", lambda p: p.symlink_to("/dev/zero"), "no such file"),
        ("a named pipe", "pipe", _pipe, "no such file"),
    ]
    for title, name, act, says in bad:

        def make(path: Path, act: Callable[[Path], object] = act) -> Truth:
            act(path)
            return None

        yield TortureCase("entry", title, f"entry-{name}_0000.nii.gz", make, "error", says)
    for title, file, data in (
        ("a hidden file", ".hidden_0000.nii.gz", b"x"),
        ("a text file beside the scans", "readme.txt", b"about these scans"),
        ("what a file manager leaves", "Thumbs.db", b"\0" * 100),
    ):
        yield TortureCase("entry", title, file, _written(data), "ignored")


def names() -> Iterator[TortureCase]:
    """File names; each scan is a good one."""
    good = [
        ("blanks", "name with  blanks_0000.nii.gz"),
        ("letters beyond ASCII", "näme-患者-ΑΒΓ-😀_0000.nii.gz"),
        ("decomposed accents", "nom-e\u0301tude_0000.nii.gz"),
        ("dots", "name.with.many.dots_0000.nii.gz"),
        ("no _0000", "plain-name.nii.gz"),
        ("another channel's number", "name_0001.nii.gz"),
        ("_0000 twice", "name_0000_0000.nii.gz"),
        ("a leading dash", "-o_0000.nii.gz"),
        ("a command for a shell", "$(touch pwned)`touch pwned`;touch pwned_0000.nii.gz"),
        ("quotes", 'name\'"quoted"_0000.nii.gz'),
        ("a line break", "two\nlines_0000.nii.gz"),
        ("an escape that colours terminals", "red\x1b[31m_0000.nii.gz"),
        ("percent signs", "100%s%d_0000.nii.gz"),
        ("a backslash", "back\\slash_0000.nii.gz"),
        ("240 letters", "n" * 230 + "_0000.nii.gz"),
        ("bytes that are not UTF-8", os.fsdecode(b"bytes-\xff\xfe_0000.nii.gz")),
    ]
    for title, file in good:
        yield TortureCase("name", title, file, scan())
    yield TortureCase("name", "nothing but _0000", "_0000.nii.gz", scan(), mask="_0000.nii.gz")
    yield TortureCase("name", "suffix in capitals", "UPPER_0000.NII.GZ", scan(), mask="UPPER.nii.gz")
    yield TortureCase("name", "suffix in both cases", "mixed_0000.Nii", scan(), mask="mixed.nii.gz")
    yield TortureCase(
        "name", "suffix twice", "double.nii.nii.gz", scan(), mask="double.nii.nii.gz".replace(".nii.nii", ".nii.nii")
    )
    yield TortureCase(
        "name", "a mask's name longer than a file system takes", "m" * 250 + ".nii", scan(), "error", "name too long"
    )
    yield TortureCase("name", "two scans, one mask: the first", "collision.nii", scan())
    yield TortureCase(
        "name", "two scans, one mask: the second", "collision.nii.gz", scan(), "error", "its mask would be named"
    )


def file_cases() -> list[TortureCase]:
    """All of them."""
    return [*damaged(), *itk_files(), *entries(), *names()]
