"""An archive is opened with tongs: whatever is in it, nothing is written outside its folder, and never too much."""

import gzip
import io
import os
import random
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from pinn_inference.artifacts import archive
from pinn_inference.errors import ModelError

CASES = int(os.environ.get("PINN_FUZZ_CASES", "1600"))
MOST = 4 * 1024 * 1024
FILES = {
    "1.0.0/manifest.json": b"{}" * 50,
    "1.0.0/model.tflite": bytes(range(256)) * 8,
    "1.0.0/deep/er/w.npz": b"w" * 999,
}

Pack = Callable[[dict[str, bytes]], bytes]


def tar_of(files: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:", format=form) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(content), 1.5  # a broken second makes a pax header
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def zip_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    return buffer.getvalue()


PACKS: dict[str, Pack] = {
    "tar": tar_of,
    "gnu tar": lambda files: tar_of(files, form=tarfile.GNU_FORMAT),
    "tar.gz": lambda files: gzip.compress(tar_of(files)),
    "zip": zip_of,
}
every_kind = pytest.mark.parametrize("pack", PACKS.values(), ids=PACKS)


class Place:
    """A folder to unpack into, and its surroundings, which must stay as they are."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.into = path / "into"
        self.file = path / "archive"

    def unpack(self, content: bytes, most: int = MOST) -> dict[str, bytes]:
        self.file.write_bytes(content)
        self.into.mkdir()
        archive.unpack(self.file, archive.Room(self.into, most))
        return self.found()

    def found(self) -> dict[str, bytes]:
        return {str(p.relative_to(self.into)): p.read_bytes() for p in self.into.rglob("*") if p.is_file()}

    def assert_nothing_is_outside(self) -> None:
        assert {p.name for p in self.path.iterdir()} <= {"into", "archive"}
        for path in self.into.rglob("*"):
            assert stat.S_IFMT(path.lstat().st_mode) in (stat.S_IFREG, stat.S_IFDIR)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@every_kind
def test_files_come_out_as_they_went_in(place: Place, pack: Pack) -> None:
    assert place.unpack(pack(FILES)) == FILES


@every_kind
def test_names_that_begin_with_a_dot_and_a_slash_are_the_same_names(place: Place, pack: Pack) -> None:
    assert place.unpack(pack({f"./{name}": content for name, content in FILES.items()})) == FILES


@every_kind
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("../evil", "leads out of the model's folder"),
        ("a/../../evil", "leads out of the model's folder"),
        ("/etc/evil", "leads out of the model's folder"),
        ("..", "leads out of the model's folder"),
        ("a\\..\\evil", "a name has printable characters"),
        ("a\nb", "a name has printable characters"),
        ("x" * 201, "a name 200 bytes long"),
        ("/".join("x" * 9), "folders may be 8 deep"),
    ],
)
def test_a_name_that_leads_elsewhere_is_refused(place: Place, pack: Pack, name: str, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        place.unpack(pack({**FILES, name: b"evil"}))
    place.assert_nothing_is_outside()


@every_kind
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_comes_twice_is_refused_even_when_written_otherwise(place: Place, pack: Pack) -> None:
    with pytest.raises(ModelError, match="twice"):
        place.unpack(pack({"a/b": b"1", "a/./b": b"2"}))


@every_kind
def test_a_file_where_a_folder_is_is_refused(place: Place, pack: Pack) -> None:
    with pytest.raises(ModelError, match="a file where a folder is"):
        place.unpack(pack({"a": b"1", "a/b": b"2"}))


def _with(member: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:") as tar:
        tar.addfile(member)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"Z"]
)
def test_a_tar_archive_with_a_link_or_a_device_is_refused(place: Place, kind: bytes) -> None:
    member = tarfile.TarInfo("manifest.json")
    member.type, member.linkname = kind, "/etc/passwd"
    with pytest.raises(ModelError, match="is a link, a device or a sparse file"):
        place.unpack(_with(member))
    assert place.found() == {}


def test_a_zip_archive_with_a_link_is_refused(place: Place) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        entry = zipfile.ZipInfo("manifest.json")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        packed.writestr(entry, "/etc/passwd")
    with pytest.raises(ModelError, match="is a link"):
        place.unpack(buffer.getvalue())


def test_a_link_and_then_a_file_through_it_writes_nowhere(place: Place) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:") as tar:
        link, file = tarfile.TarInfo("a"), tarfile.TarInfo("a/evil")
        link.type, link.linkname = tarfile.SYMTYPE, str(place.path)
        tar.addfile(link)
        tar.addfile(file)
    with pytest.raises(ModelError, match="is a link"):
        place.unpack(buffer.getvalue())
    place.assert_nothing_is_outside()


# --- Bombs -----------------------------------------------------------------------------------------------------------


@every_kind
def test_what_unpacks_to_too_much_is_refused_on_the_way(place: Place, pack: Pack) -> None:
    with pytest.raises(ModelError, match=rf"more than {MOST} bytes unpacked; the setting PINN_SERVER_MODEL_MAX_BYTES"):
        place.unpack(pack({"a": bytes(MOST // 2), "b": bytes(MOST // 2 + 1)}))
    assert sum(map(len, place.found().values())) <= MOST


def test_what_is_opened_in_memory_is_refused_without_a_setting_that_would_not_help() -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("a", bytes(MOST + 1))
    with pytest.raises(ModelError, match=f"^has more than {MOST} bytes unpacked$"):
        archive.contents(packed.getvalue(), MOST)


@every_kind
def test_too_many_entries_are_refused(place: Place, pack: Pack) -> None:
    with pytest.raises(ModelError, match="more than 1000 files and folders"):
        place.unpack(pack({f"{i}": b"" for i in range(1001)}))


def test_too_many_folders_are_entries_too(place: Place) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:") as tar:
        for i in range(1001):
            folder = tarfile.TarInfo(f"d{i}")
            folder.type = tarfile.DIRTYPE
            tar.addfile(folder)
    with pytest.raises(ModelError, match="more than 1000 files and folders"):
        place.unpack(buffer.getvalue())


@pytest.mark.parametrize("before", [b"", tar_of({"a": b"a" * 512})[: 4 * 512]], ids=["at the start", "after a file"])
def test_a_header_without_an_end_is_refused_unread(place: Place, before: bytes) -> None:
    """Of a tar archive names and comments may be of any length; gzip makes a gigabyte of one a megabyte."""
    member = tarfile.TarInfo("long")
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, 1 << 30
    bomb = gzip.compress(before + member.tobuf(tarfile.GNU_FORMAT) + bytes(3 * archive.HEADERS))
    with pytest.raises(ModelError, match="headers of more than 1048576 bytes"):
        place.unpack(bomb)
    assert list(place.found()) == (["a"] if before else [])


def test_a_sparse_file_of_no_bytes_that_says_it_has_a_petabyte_is_refused(place: Place) -> None:
    member = tarfile.TarInfo("manifest.json")
    member.type = tarfile.GNUTYPE_SPARSE
    member.size = 0
    block = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    block[483:495] = b"77777777777\0"
    block[148:156] = b"%06o\0 " % (sum(block[:148]) + 8 * 32 + sum(block[156:512]))
    with pytest.raises(ModelError, match="a sparse file"):
        place.unpack(bytes(block) + bytes(1024))


def test_a_size_that_leads_beyond_the_end_is_refused(place: Place) -> None:
    member = tarfile.TarInfo("a")
    member.size = 1 << 50
    with pytest.raises(ModelError, match=r"is damaged|bytes unpacked"):
        place.unpack(member.tobuf(tarfile.GNU_FORMAT) + b"x" * 1024)


def test_a_zip_directory_beyond_its_limit_is_refused_unread(place: Place) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        entry = zipfile.ZipInfo("a")
        for i in range(40):
            entry = zipfile.ZipInfo(f"a{i}")
            entry.comment = b"c" * 65535
            packed.writestr(entry, b"")
    with pytest.raises(ModelError, match="headers of more than 1048576 bytes"):
        place.unpack(buffer.getvalue())


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_archive_that_is_compressed_in_a_rare_way_is_refused(place: Place, method: int) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as packed:
        packed.writestr("a", b"a" * 100)
    with pytest.raises(ModelError, match="a method other than deflate"):
        place.unpack(buffer.getvalue())


def test_an_encrypted_zip_archive_is_refused(place: Place) -> None:
    content = bytearray(zip_of({"a": b"a"}))
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(ModelError, match="is damaged, or packed in a way"):
        place.unpack(bytes(content))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is neither"),
        (b"\x93NUMPY", "is neither"),
        (b"  <!DOCTYPE html><title>Sign in", "a page for people: does the address want a login"),
        (b"7z\xbc\xaf\x27\x1c", "is neither"),
        (gzip.compress(b"no archive", mtime=0), "is damaged"),
        (b"\x1f\x8b", "is damaged"),
        (b"PK\x03\x04", "is damaged"),
    ],
)
def test_what_is_no_archive_is_refused(place: Place, content: bytes, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        place.unpack(content)


# --- Anything --------------------------------------------------------------------------------------------------------


def _mutant(content: bytes, rng: random.Random) -> bytes:
    """Cut short, flipped, stretched or with a number changed: here and there, mostly where the headers are."""
    made = bytearray(content[: rng.randrange(len(content))] if rng.random() < 0.2 else content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        if not made:
            break
        at = rng.randrange(len(made)) if rng.random() < 0.5 else rng.randrange(min(len(made), 600))
        match rng.randrange(4):
            case 0:
                made[at] ^= 1 << rng.randrange(8)
            case 1:
                made[at] = rng.choice(b"\0\xff/.0127S")
            case 2:
                made[at : at + rng.randrange(9)] = rng.randbytes(rng.randrange(9))
            case 3:
                made[at:at] = made[at : at + rng.randrange(512)]
    return bytes(made)


def _nasty(rng: random.Random) -> str:
    pieces = ["a", "..", ".", "", "/", "\\", "manifest.json", "é", "x" * 90, "x\0y", "~", "C:", "con", "%2e%2e"]
    return "/".join(rng.choice(pieces) for _ in range(rng.randrange(1, 12))) or "a"


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_no_archive_writes_outside_its_folder_or_fails_in_another_way_than_said(tmp_path: Path) -> None:
    """Whole archives with nasty names, and damaged ones of every kind; gzip's insides are damaged before they are compressed."""
    rng = random.Random(6)
    kinds = list(PACKS.values())
    whole = [pack(FILES) for pack in kinds]
    refused = 0
    for case in range(max(CASES // 2, 200)):
        room = Place(tmp_path / f"{case}")
        room.path.mkdir()
        if rng.random() < 0.2:
            content = rng.choice(kinds)({_nasty(rng): b"x" for _ in range(3)})
        elif rng.random() < 0.3:
            content = gzip.compress(_mutant(whole[0], rng), 1)
        else:
            content = _mutant(rng.choice(whole), rng)
        try:
            room.unpack(content)
        except ModelError:
            refused += 1
        room.assert_nothing_is_outside()
        assert sum(map(len, room.found().values())) <= MOST
        _remove(room.path)
    assert refused > 50


def _remove(path: Path) -> None:
    for one in sorted(path.rglob("*"), reverse=True):
        one.rmdir() if one.is_dir() else one.unlink()
    path.rmdir()
