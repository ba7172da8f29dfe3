"""Archives are read in place, in full, and nothing of what they claim is trusted."""

from __future__ import annotations

import gzip
import io
import os
import random
import stat
import struct
import tarfile
import tempfile
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hqdata import archives, storage
from hqdata.archives import remove_spool
from hqdata.scan import scan
from hqdata.storage import DamagedFileError, FileReader, Tree
from support.spooled import scan_spooled

KINDS = ["zip-stored", "zip-deflated", "tar", "tar.gz"]


def pack(path: Path, kind: str, files: dict[str, bytes]) -> Path:
    """An archive of one kind with these members, made by the standard library."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind.startswith("zip"):
        method = zipfile.ZIP_STORED if kind == "zip-stored" else zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(path, "w", method) as archive:
            for name, data in files.items():
                archive.writestr(zipfile.ZipInfo(name), data, method)
        return path
    with tarfile.open(path, "w:gz" if kind == "tar.gz" else "w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def pack_tar(path: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w") as tar:
        for info in members:
            tar.addfile(info, io.BytesIO(b"x" * info.size) if info.isreg() else None)
    return path


def read_all(tree: Tree) -> dict[str, bytes]:
    """path in the tree -> bytes."""
    with FileReader() as reader:
        return {
            f"{folder.path}/{name}": reader.read(ref)
            for folder in tree.folders
            for name, ref in folder.files.items()
        }


def paths(tree: Tree) -> set[str]:
    return {f"{folder.path}/{name}" for folder in tree.folders for name in folder.files}


def refused(tree: Tree) -> dict[str, str]:
    """refused member -> reason."""
    return {bad.member: bad.reason for bad in tree.bad_members}


class TestReadingBack:
    names = st.text(
        st.characters(exclude_characters="/\\:", exclude_categories=("Cs", "Cc")),
        min_size=1,
        max_size=12,
    ).filter(lambda name: not name.startswith(".") and not storage.is_dropping(name))
    trees = st.dictionaries(
        st.lists(names, min_size=1, max_size=3).map("/".join), st.binary(max_size=900), max_size=8
    )

    @pytest.mark.parametrize("kind", KINDS)
    @settings(max_examples=40, deadline=None)
    @given(files=trees)
    def test_every_member_comes_back_byte_for_byte(
        self, kind: str, files: dict[str, bytes]
    ) -> None:
        """Whatever the names and contents, and however they are packed."""
        suffix = "zip" if kind.startswith("zip") else kind
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder, "data")
            pack(root / f"set.{suffix}", kind, files)
            tree = scan_spooled(root, Path(folder, "spool"))
            assert tree.unreadable == {}
            assert tree.bad_members == []
            assert read_all(tree) == {f"set.{suffix}/{n}": data for n, data in files.items()}

    @pytest.mark.parametrize("kind", KINDS)
    def test_an_archive_without_members_is_an_empty_folder(self, tmp_path: Path, kind: str) -> None:
        suffix = "zip" if kind.startswith("zip") else kind
        pack(tmp_path / f"set.{suffix}", kind, {})
        tree = scan_spooled(tmp_path, tmp_path / ".spool")
        assert (tree.folders, tree.bad_members, tree.unreadable) == ([], [], {})

    def test_members_are_found_by_content_not_by_suffix(self, tmp_path: Path) -> None:
        """SA-1B redistributions hold gzip in `.tar`; some mirrors zip in `.tar`."""
        pack(tmp_path / "a.tar", "tar.gz", {"x.jpg": b"1"})
        pack(tmp_path / "b.tar", "zip-stored", {"x.jpg": b"2"})
        tree = scan_spooled(tmp_path, tmp_path / ".spool")
        assert read_all(tree) == {"a.tar/x.jpg": b"1", "b.tar/x.jpg": b"2"}

    def test_the_listing_without_a_spool_names_the_same_files(self, tmp_path: Path) -> None:
        pack(tmp_path / "a.tar.gz", "tar.gz", {"d/x.jpg": b"1", "y.png": b"22"})
        listed = scan(tmp_path)
        assert paths(listed) == paths(scan_spooled(tmp_path, tmp_path / ".spool"))
        with pytest.raises(DamagedFileError, match="not decompressed"):
            read_all(listed)

    @pytest.mark.parametrize(
        "name",
        [
            "gr\u00fcn.jpg",  # composed
            "gru\u0308n.jpg",  # decomposed, as macOS writes it
            "\u98de\u673a.jpg",  # Chinese
            "\U0001f600.jpg",  # beyond the basic plane
            "a\u2028b.jpg",  # a line separator
        ],
    )
    @pytest.mark.parametrize("kind", KINDS)
    def test_unicode_names_survive(self, tmp_path: Path, kind: str, name: str) -> None:
        suffix = "zip" if kind.startswith("zip") else kind
        pack(tmp_path / f"s.{suffix}", kind, {name: b"1"})
        assert paths(scan_spooled(tmp_path, tmp_path / ".spool")) == {f"s.{suffix}/{name}"}

    def test_a_name_that_is_no_utf8_is_spelt_out(self, tmp_path: Path) -> None:
        """What goes into records and reports has to be valid Unicode."""
        with tarfile.open(
            tmp_path / "s.tar", "w", encoding="latin-1", format=tarfile.GNU_FORMAT
        ) as tar:
            tar.addfile(tarfile.TarInfo("caf\u00e9.jpg"))
        assert paths(scan(tmp_path)) == {"s.tar/caf%E9.jpg"}

    def test_droppings_of_operating_systems_are_passed_over(self, tmp_path: Path) -> None:
        files = {"a.jpg": b"1", "__MACOSX/._a.jpg": b"2", ".DS_Store": b"3", "d/Thumbs.db": b"4"}
        pack(tmp_path / "s.zip", "zip-stored", files)
        tree = scan(tmp_path)
        assert paths(tree) == {"s.zip/a.jpg"}
        assert tree.bad_members == []

    def test_the_tree_does_not_depend_on_the_order_of_members(self, tmp_path: Path) -> None:
        files = {f"{c}/{n}.jpg": b"x" for c in "ab" for n in range(3)}
        pack(tmp_path / "one" / "s.tar", "tar", files)
        pack(tmp_path / "two" / "s.tar", "tar", dict(reversed(files.items())))
        trees = [scan(tmp_path / name) for name in ("one", "two")]
        assert [f.parts for f in trees[0].folders] == [f.parts for f in trees[1].folders]
        assert paths(trees[0]) == paths(trees[1])


HOSTILE_NAMES = [
    "/etc/passwd",  # absolute
    "../out.jpg",  # leaves the archive
    "a/../../out.jpg",  # leaves it further down
    "..",  # the parent itself
    "..\\out.jpg",  # leaves it as Windows spells it
    "\\\\server\\share\\out.jpg",  # a network path
    "C:\\out.jpg",  # a drive
    "c:out.jpg",  # a drive's current folder
    "a/b\n.jpg",  # a line feed
    "a/\x1b[31m.jpg",  # a terminal escape
    "a/../b.jpg",  # stays inside, but nobody needs it
]


class TestHostileNames:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("name", HOSTILE_NAMES)
    def test_a_path_that_could_leave_the_archive_is_refused_by_name(
        self, tmp_path: Path, kind: str, name: str
    ) -> None:
        suffix = "zip" if kind.startswith("zip") else kind
        root = tmp_path / "data"
        pack(root / f"s.{suffix}", kind, {"good.jpg": b"1", name: b"2"})
        tree = scan_spooled(root, tmp_path / "spool")
        assert paths(tree) == {f"s.{suffix}/good.jpg"}
        assert list(refused(tree)) == [name]
        assert "leaves the archive" in refused(tree)[name]

    @pytest.mark.parametrize("kind", KINDS)
    def test_nothing_is_written_outside_the_spool_folder(self, tmp_path: Path, kind: str) -> None:
        suffix = "zip" if kind.startswith("zip") else kind
        root = tmp_path / "data"
        pack(root / f"s.{suffix}", kind, dict.fromkeys(HOSTILE_NAMES, b"2"))
        before = sorted(tmp_path.rglob("*"))
        spool = tmp_path / "spool"
        tree = scan_spooled(root, spool)
        read_all(tree)
        after = sorted(path for path in tmp_path.rglob("*") if spool not in (path, *path.parents))
        assert after == before
        assert all(path.parent == spool and path.suffix == ".tar" for path in spool.rglob("*"))
        remove_spool(spool)
        assert not spool.exists()

    @pytest.mark.parametrize("name", ["./a.jpg", "a//b.jpg", "a/./b.jpg"])
    def test_harmless_detours_are_straightened(self, tmp_path: Path, name: str) -> None:
        pack(tmp_path / "s.tar", "tar", {name: b"1"})
        assert paths(scan(tmp_path)) == {"s.tar/" + name.replace("//", "/").replace("./", "")}

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("again", ["d/a.jpg", "d//a.jpg", "./d/a.jpg"])
    @pytest.mark.filterwarnings("ignore:Duplicate name")
    def test_of_a_path_listed_twice_neither_is_taken(
        self, tmp_path: Path, kind: str, again: str
    ) -> None:
        """Three times does not bring it back."""
        suffix = "zip" if kind.startswith("zip") else kind
        path = tmp_path / f"s.{suffix}"
        if kind.startswith("zip"):
            with zipfile.ZipFile(path, "w") as archive:
                for name in ("d/a.jpg", "b.jpg", again, again):
                    archive.writestr(name, name)
        else:
            with tarfile.open(path, "w:gz" if kind == "tar.gz" else "w") as tar:
                for name in ("d/a.jpg", "b.jpg", again, again):
                    tar.addfile(tarfile.TarInfo(name))
        tree = scan_spooled(tmp_path, tmp_path / ".spool")
        assert paths(tree) == {f"s.{suffix}/b.jpg"}
        assert [bad.reason for bad in tree.bad_members] == ["its path is listed twice"] * 2

    @pytest.mark.parametrize("kind", KINDS)
    def test_one_bad_member_among_ten_thousand_costs_only_itself(
        self, tmp_path: Path, kind: str
    ) -> None:
        suffix = "zip" if kind.startswith("zip") else kind
        files = {f"d/{number}.jpg": b"" for number in range(9_999)}
        pack(tmp_path / f"s.{suffix}", kind, {**files, "../bad.jpg": b""})
        tree = scan_spooled(tmp_path, tmp_path / ".spool")
        assert list(refused(tree)) == ["../bad.jpg"]
        assert paths(tree) == {f"s.{suffix}/{name}" for name in files}


class TestLinksAndDevices:
    @pytest.mark.parametrize(
        "kind",
        [
            tarfile.SYMTYPE,  # symbolic link
            tarfile.LNKTYPE,  # hard link
            tarfile.CHRTYPE,  # character device
            tarfile.BLKTYPE,  # block device
            tarfile.FIFOTYPE,  # named pipe
        ],
    )
    @pytest.mark.parametrize("spooled", [True, False])
    def test_a_tar_member_that_is_no_plain_file_is_refused(
        self, tmp_path: Path, kind: bytes, spooled: bool
    ) -> None:
        odd, good = tarfile.TarInfo("odd.jpg"), tarfile.TarInfo("good.jpg")
        odd.type, odd.linkname, good.size = kind, "/etc/passwd", 3
        data = pack_tar(tmp_path / "plain", odd, good).read_bytes()
        root = tmp_path / "data"
        root.mkdir()
        (root / "s.tar").write_bytes(data)
        (root / "t.tar.gz").write_bytes(gzip.compress(data, mtime=0))
        tree = scan_spooled(root, tmp_path / "spool") if spooled else scan(root)
        assert paths(tree) == {"s.tar/good.jpg", "t.tar.gz/good.jpg"}
        assert [(b.archive, b.member) for b in tree.bad_members] == [
            ("s.tar", "odd.jpg"),
            ("t.tar.gz", "odd.jpg"),
        ]

    @pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
    def test_a_zip_member_that_is_no_plain_file_is_refused(self, tmp_path: Path, mode: int) -> None:
        info = zipfile.ZipInfo("odd.jpg")
        info.external_attr = (mode | 0o777) << 16
        with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
            archive.writestr(info, "/etc/passwd")
            archive.writestr("good.jpg", "1")
        tree = scan(tmp_path)
        assert paths(tree) == {"s.zip/good.jpg"}
        assert "link or a device" in refused(tree)["odd.jpg"]

    def test_a_folder_entry_is_neither_file_nor_problem(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
            archive.writestr("d/", "")
        folder = tarfile.TarInfo("d")
        folder.type = tarfile.DIRTYPE
        pack_tar(tmp_path / "s.tar", folder)
        tree = scan(tmp_path)
        assert (tree.folders, tree.bad_members) == ([], [])


def patched(path: Path, signature: bytes, offset: int, value: bytes) -> None:
    """Overwrites a field of the last record with this signature."""
    data = bytearray(path.read_bytes())
    start = data.rindex(signature) + offset
    data[start : start + len(value)] = value
    path.write_bytes(bytes(data))


CENTRAL = b"PK\x01\x02"


class TestHostileZips:
    def test_an_encrypted_member_is_refused(self, tmp_path: Path) -> None:
        path = pack(tmp_path / "s.zip", "zip-stored", {"a.jpg": b"1", "b.jpg": b"2"})
        patched(path, CENTRAL, 8, b"\x01\x00")
        tree = scan(tmp_path)
        assert refused(tree) == {"b.jpg": "it is encrypted"}
        assert paths(tree) == {"s.zip/a.jpg"}

    @pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, 93])
    def test_other_compressions_are_refused_by_number(self, tmp_path: Path, method: int) -> None:
        path = pack(tmp_path / "s.zip", "zip-stored", {"a.jpg": b"1"})
        patched(path, CENTRAL, 10, struct.pack("<H", method))
        assert f"method {method}" in refused(scan(tmp_path))["a.jpg"]

    @pytest.mark.parametrize(
        ("claimed", "message"),
        [
            (5, "listed"),  # far less than it inflates to
            (99_999, "listed"),  # one byte less
            (100_001, "listed"),  # one byte more
            (0, "listed"),  # nothing at all
            (2**32 - 2, "limit"),  # four gibibytes
        ],
    )
    def test_a_member_that_lies_about_its_size_is_damaged(
        self, tmp_path: Path, claimed: int, message: str
    ) -> None:
        """A deflate bomb is inflated no further than it claims to go."""
        path = pack(tmp_path / "s.zip", "zip-deflated", {"a.jpg": b"\0" * 100_000})
        patched(path, CENTRAL, 24, struct.pack("<I", claimed))
        with pytest.raises(DamagedFileError, match=message):
            read_all(scan(tmp_path))

    @pytest.mark.parametrize("kind", ["zip-stored", "zip-deflated"])
    def test_a_huge_claimed_packed_size_asks_for_no_memory(self, tmp_path: Path, kind: str) -> None:
        path = pack(tmp_path / "s.zip", kind, {"a.jpg": b"1"})
        patched(path, CENTRAL, 20, struct.pack("<I", 2**32 - 2))
        with pytest.raises(DamagedFileError, match="limit"):
            read_all(scan(tmp_path))

    def test_an_offset_beyond_any_file_is_damage_of_that_member(self, tmp_path: Path) -> None:
        """The 64-bit offset of a zip64 extra field can say what no file can hold."""
        path = tmp_path / "s.zip"
        info = zipfile.ZipInfo("a.jpg")
        info.extra = struct.pack("<HHQ", 1, 8, 2**64 - 1)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(info, "1")
        patched(path, CENTRAL, 42, b"\xff\xff\xff\xff")
        tree = scan(tmp_path)
        assert paths(tree) == {"s.zip/a.jpg"}
        with pytest.raises(DamagedFileError, match="cannot be read"):
            read_all(tree)

    @pytest.mark.parametrize("kind", ["zip-stored", "zip-deflated"])
    def test_a_flipped_bit_is_found(self, tmp_path: Path, kind: str) -> None:
        data = random.Random(0).randbytes(500)
        path = pack(tmp_path / "s.zip", kind, {"a.jpg": data, "b.jpg": b"2"})
        raw = bytearray(path.read_bytes())
        raw[30 + 5 + 200] ^= 1
        path.write_bytes(bytes(raw))
        folder = scan(tmp_path).folders[0]
        with FileReader() as reader:
            with pytest.raises(DamagedFileError, match=r"CRC-32|decompressed|listed"):
                reader.read(folder.files["a.jpg"])
            assert reader.read(folder.files["b.jpg"]) == b"2"

    def test_a_directory_that_points_elsewhere_is_damage(self, tmp_path: Path) -> None:
        path = pack(tmp_path / "s.zip", "zip-stored", {"a.jpg": b"1"})
        patched(path, CENTRAL, 42, struct.pack("<I", 3))
        with pytest.raises(DamagedFileError, match="no member where its directory says"):
            read_all(scan(tmp_path))

    def test_a_cut_zip_is_left_alone_with_its_name(self, tmp_path: Path) -> None:
        path = pack(tmp_path / "d" / "s.zip", "zip-stored", {"a.jpg": b"1" * 999})
        path.write_bytes(path.read_bytes()[:-30])
        tree = scan(tmp_path)
        assert tree.folders == []
        assert "download cut short" in tree.unreadable["d/s.zip"]

    @pytest.mark.parametrize(
        ("name", "data"),
        [
            ("s.zip", b"<html>quota exceeded</html>"),  # Google Drive's answer saved as the file
            ("s.zip", b""),  # an empty file
            ("s.tar", b"<html>quota exceeded</html>" * 40),  # the same as a tar
            ("s.tar", b""),  # an empty tar
            ("s.tar.gz", b"\x1f\x8b\x08\x00 not gzip at all"),  # only the magic number is right
            ("s.tgz", gzip.compress(b"no tar inside", mtime=0)),  # gzip of something else
        ],
    )
    @pytest.mark.parametrize("spooled", [True, False])
    def test_a_file_that_is_not_what_its_name_says_is_left_alone(
        self, tmp_path: Path, name: str, data: bytes, spooled: bool
    ) -> None:
        root = tmp_path / "data"
        root.mkdir()
        (root / name).write_bytes(data)
        tree = scan_spooled(root, tmp_path / "spool") if spooled else scan(root)
        assert list(tree.unreadable) == [name]
        assert tree.folders == []


class TestHostileTars:
    files = {"a.jpg": b"1" * 700, "b.jpg": b"2" * 700}  # noqa: RUF012

    @pytest.mark.parametrize(
        "keep",
        [
            1536,  # at the first member's end
            1536 + 512,  # in the second's data
            1536 + 100,  # in the second's header
            3072,  # only the end mark is gone
        ],
    )
    @pytest.mark.parametrize("zipped", [False, True])
    def test_a_cut_tar_is_left_alone(self, tmp_path: Path, keep: int, zipped: bool) -> None:
        """The standard library takes a tar that was cut between two members for whole."""
        data = pack(tmp_path / "whole", "tar", self.files).read_bytes()[:keep]
        root = tmp_path / "data"
        root.mkdir()
        (root / ("s.tar.gz" if zipped else "s.tar")).write_bytes(
            gzip.compress(data, mtime=0) if zipped else data
        )
        tree = scan_spooled(root, tmp_path / "spool")
        assert tree.folders == []
        assert "cut short" in next(iter(tree.unreadable.values()))

    @pytest.mark.parametrize("spooled", [True, False])
    def test_a_cut_gzip_is_left_alone_and_nothing_stays_behind(
        self, tmp_path: Path, spooled: bool
    ) -> None:
        path = pack(
            tmp_path / "data" / "s.tar.gz", "tar.gz", {"a": random.Random(1).randbytes(9000)}
        )
        path.write_bytes(path.read_bytes()[:-2000])
        spool = tmp_path / "spool"
        tree = scan_spooled(tmp_path / "data", spool) if spooled else scan(tmp_path / "data")
        assert "cut short" in tree.unreadable["s.tar.gz"]
        assert list(spool.glob("*")) == []

    def test_a_gzip_bomb_stops_at_the_limit_and_leaves_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(archives, "ALWAYS_EXPANDED", 100_000)
        root, spool = tmp_path / "data", tmp_path / "spool"
        pack(root / "s.tar.gz", "tar.gz", {"a.jpg": b"\0" * 20_000_000})
        tree = scan_spooled(root, spool)
        assert "more than 64 times its size" in tree.unreadable["s.tar.gz"]
        assert list(spool.glob("*")) == []

    def test_a_small_gzip_may_grow_by_any_factor(self, tmp_path: Path) -> None:
        """The limit is for bombs, not for a try-out with flat pictures."""
        pack(tmp_path / "s.tar.gz", "tar.gz", {"a.jpg": b"\0" * 2_000_000})
        tree = scan_spooled(tmp_path, tmp_path / ".spool")
        assert read_all(tree) == {"s.tar.gz/a.jpg": b"\0" * 2_000_000}

    def test_more_members_than_anybody_needs_are_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(archives, "MAX_MEMBERS", 10)
        pack(tmp_path / "ten.zip", "zip-stored", {f"{n}.jpg": b"" for n in range(10)})
        pack(tmp_path / "more.zip", "zip-stored", {f"{n}.jpg": b"" for n in range(11)})
        tree = scan(tmp_path)
        assert tree.unreadable == {"more.zip": "it has more than 10 members"}
        assert len(paths(tree)) == 10

    @pytest.mark.parametrize(
        "size",
        [
            2**62,  # more than any disk
            2**64 + 5,  # more than 64 bits
            -512,  # points back at its own header
            -1024,  # points before it
        ],
    )
    @pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
    def test_a_tar_whose_sizes_cannot_be_is_left_alone(
        self, tmp_path: Path, size: int, kind: bytes
    ) -> None:
        good = tarfile.TarInfo("good.jpg").tobuf()
        header = bytearray(tarfile.TarInfo("a.jpg").tobuf(tarfile.GNU_FORMAT))
        header[156:157] = kind
        header[124:136] = ((256**12 + size) if size < 0 else (0x80 << 88) + size).to_bytes(
            12, "big"
        )
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header[:512])
        (tmp_path / "s.tar").write_bytes(good + bytes(header) + b"\0" * 10240)
        tree = scan(tmp_path)
        assert (tree.folders, list(tree.unreadable)) == ([], ["s.tar"])

    def test_extension_headers_without_end_are_left_alone(self, tmp_path: Path) -> None:
        """The standard library follows them by recursion."""
        header = tarfile.TarInfo("x")
        header.type, header.size = tarfile.XHDTYPE, 0
        (tmp_path / "s.tar").write_bytes(header.tobuf() * 20_000 + b"\0" * 10240)
        assert list(scan(tmp_path).unreadable) == ["s.tar"]


class TestFuzz:
    @pytest.mark.parametrize("kind", KINDS)
    def test_no_damage_raises_anything_but_damage(self, tmp_path: Path, kind: str) -> None:
        """Bytes overwritten, cut out or put in anywhere: what can still be listed reads or says
        why not.
        """
        suffix = "zip" if kind.startswith("zip") else kind
        files = {"d/a.jpg": b"1" * 600, "d/" + "n" * 120: b"2", "gr\u00fcn.png": bytes(range(256))}
        whole = pack(tmp_path / "whole", kind, files).read_bytes()
        outcomes = set()
        root, spool = tmp_path / "data", tmp_path / "spool"
        root.mkdir()
        rng = random.Random(7)
        for _ in range(300):
            data = bytearray(whole)
            for _ in range(rng.choice([1, 1, 2, 8])):
                at = rng.randrange(len(data))
                if rng.random() < 0.6:
                    data[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
                elif rng.random() < 0.5:
                    del data[at : at + rng.randrange(1, 600)]
                else:
                    data[at:at] = rng.randbytes(rng.randrange(1, 20))
                if not data:
                    data = bytearray(b"P")
            (root / f"s.{suffix}").write_bytes(bytes(data))
            tree = scan_spooled(root, spool)
            outcomes.add("unreadable" if tree.unreadable else "listed")
            with FileReader() as reader:
                for folder in tree.folders:
                    for ref in folder.files.values():
                        with suppress(DamagedFileError):
                            assert len(reader.read(ref)) == ref.size
        assert {"unreadable", "listed"} <= outcomes
        assert os.listdir(tmp_path) and set(os.listdir(tmp_path)) <= {"whole", "data", "spool"}
