"""Files on disk: written whole, through links, straight into devices, with the mode that they had."""

import csv
import errno
import io
import os
import re
import stat
import sys
import threading
import types
from pathlib import Path

import pytest

from simulator.errors import InputError
from simulator.store import (
    Folder,
    check_name,
    check_writable,
    csv_text,
    write,
    write_bytes,
    write_text,
)
from simulator.store.folder import MARK

HASH = "0123456789abcdef" * 2
FOR_USERS = pytest.mark.skipif(
    hasattr(os, "geteuid") and os.geteuid() == 0, reason="nothing is closed to root"
)

ON_POSIX = pytest.mark.skipif(os.name != "posix", reason="Windows has no such files and modes")


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(params=["write", "write_bytes"])
def put(request):
    """Return each way to write a file, as a function of a path and a text."""
    if request.param == "write":
        return lambda path, text: write(path, lambda draft: draft.write_text(text))
    return lambda path, text: write_bytes(path, text.encode())


# One file


def test_a_file_is_written_through_its_links(tmp_path, put):
    (tmp_path / "far").mkdir()
    target = tmp_path / "far" / "target.json"
    target.write_text("old")
    (tmp_path / "second").symlink_to("far/target.json")
    link = tmp_path / "link.json"
    link.symlink_to("second")
    put(link, "new")
    assert link.is_symlink()
    assert link.readlink() == Path("second")
    assert target.read_text() == "new"
    assert [path.name for path in target.parent.iterdir()] == ["target.json"]


def test_a_link_to_nothing_yet_makes_its_target(tmp_path, put):
    link = tmp_path / "link.json"
    link.symlink_to("target.json")
    put(link, "new")
    assert link.is_symlink()
    assert (tmp_path / "target.json").read_text() == "new"


def test_links_that_lead_nowhere_are_refused(tmp_path):
    (tmp_path / "round").symlink_to("round")
    (tmp_path / "lost").symlink_to("no/such/folder")
    with pytest.raises(InputError, match="cannot be written to"):
        check_writable(tmp_path / "round")
    with pytest.raises(InputError, match="lies in a folder that does not exist"):
        check_writable(tmp_path / "lost")


def test_all_names_of_a_file_keep_leading_to_it(tmp_path, put):
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    first.write_text("old, and longer than what follows")
    second.hardlink_to(first)
    put(first, "new")
    assert second.read_text() == "new"
    assert first.stat().st_ino == second.stat().st_ino


@ON_POSIX
def test_a_file_of_another_owner_stays_his(tmp_path, put):
    path = tmp_path / "file.json"
    path.write_text("old")
    try:
        os.chown(path, 12345, -1)
    except PermissionError:
        pytest.skip("only root gives files away")
    put(path, "new")
    assert (path.read_text(), path.stat().st_uid) == ("new", 12345)


@ON_POSIX
@pytest.mark.parametrize("before", [0o600, 0o640, 0o666, 0o755])
def test_a_file_keeps_its_mode(tmp_path, put, before):
    path = tmp_path / "file.json"
    path.write_text("old")
    path.chmod(before)
    put(path, "new")
    assert (mode(path), path.read_text()) == (before, "new")


@ON_POSIX
@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077, 0o002])
def test_a_new_file_has_the_mode_that_the_umask_leaves(tmp_path, put, mask):
    old = os.umask(mask)
    try:
        put(tmp_path / "file.json", "new")
    finally:
        os.umask(old)
    assert mode(tmp_path / "file.json") == 0o666 & ~mask


@ON_POSIX
def test_a_fifo_gets_the_content_and_stays_one(tmp_path, put):
    path = tmp_path / "fifo.json"
    os.mkfifo(path)
    received = []
    reader = threading.Thread(target=lambda: received.append(path.read_text()), daemon=True)
    reader.start()
    put(path, "new")
    reader.join(timeout=10)
    assert received == ["new"]
    assert stat.S_ISFIFO(path.stat().st_mode)
    assert list(tmp_path.iterdir()) == [path]


@ON_POSIX
def test_a_device_stays_one(tmp_path, put):
    path = tmp_path / "null.json"
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))  # /dev/null
        path.write_text("")
    except PermissionError:
        pytest.skip("only root makes devices, and not everywhere")
    put(path, "new")
    assert stat.S_ISCHR(path.stat().st_mode)


def test_what_cannot_be_renamed_over_is_written_in_place(tmp_path, put, monkeypatch):
    path = tmp_path / "mounted.json"
    path.write_text("old, and longer")

    def busy(*_):
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr(Path, "replace", busy)
    put(path, "new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_long_name_is_no_longer_while_it_is_drafted(tmp_path, put):
    path = tmp_path / f"{'x' * 250}.json"
    put(path, "new")
    assert path.read_text() == "new"


def test_a_failed_draft_leaves_a_file_with_several_names_as_it_was(tmp_path):
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    first.write_text("old")
    second.hardlink_to(first)

    def half(draft):
        draft.write_text("ne")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write(first, half)
    assert second.read_text() == "old"


@FOR_USERS
def test_a_file_that_is_closed_to_writers_is_refused(tmp_path):
    path = tmp_path / "file.json"
    path.write_text("old")
    path.chmod(0o444)
    with pytest.raises(InputError, match="cannot be written to"):
        check_writable(path)


@FOR_USERS
def test_a_file_in_a_closed_folder_is_written_in_place(tmp_path):
    (tmp_path / "closed").mkdir()
    path = tmp_path / "closed" / "file.json"
    path.write_text("old")
    path.parent.chmod(0o555)
    try:
        write_text(path, "new")
        with pytest.raises(InputError, match="lies in a folder that cannot be written to"):
            check_writable(path.with_name("other.json"))
    finally:
        path.parent.chmod(0o755)
    assert path.read_text() == "new"


# Tables


@pytest.mark.parametrize(
    "text", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", '=HYPERLINK("x")']
)
def test_a_spreadsheet_works_out_no_text_of_a_table(text):
    rows = list(csv.reader(io.StringIO(csv_text({text: [text]}), newline="")))
    assert rows == [[f"'{text}"], [f"'{text}"]]


def test_numbers_and_other_texts_of_a_table_stay_as_they_are():
    table = {"n": [-1, -2.5e-7, 3], "t": ["-1", "+2.5e3", "a=b"], "b": [True, False, None]}
    assert csv_text(table) == "n,t,b\n-1,-1,true\n-2.5e-07,+2.5e3,false\n3,a=b,\n"


# The folder of a sweep


@pytest.mark.parametrize("name", ["nvlink", "my sweep-2.1", "Größe", "a..b", "trial: x"])
def test_a_sweeps_name_is_that_of_a_folder(name):
    check_name(name)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../victim", "a/b", "/tmp", "a\\b", "C:x", ".hidden", " a", "a\n", "a\x1b[1m"],
)
def test_a_name_of_no_single_folder_is_refused(name):
    with pytest.raises(InputError, match="is not the name of one folder"):
        check_name(name)


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("NUL", "is the name of a device on Windows. Write for example 'NUL-sweep'."),
        ("con.v2", "is the name of a device on Windows. Write for example 'con-sweep'."),
        ("Aux", "is the name of a device"),
        ("prn", "is the name of a device"),
        ("com1", "is the name of a device"),
        ("LPT9.a.b", "is the name of a device"),
        ("-o", "begins with -, as options do. Begin it with a letter or a digit."),
        ("-", "begins with -"),
        ("n" * 256, "is longer than the 255 bytes that a folder's name may have. Shorten it."),
        ("\u00f6" * 128, "is longer than the 255 bytes"),
    ],
)
def test_a_name_that_some_system_cannot_use_is_refused(name, rule):
    with pytest.raises(InputError, match=re.escape(f"{name!r} {rule}")):
        check_name(name)


@pytest.mark.parametrize("name", ["console", "com", "COM10", "nul-1", "a-b", "n" * 255])
def test_a_name_like_those_is_taken(name):
    check_name(name)


def opened(root):
    with Folder(root).open():
        return sorted(path.name for path in root.iterdir())


def contents(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "files",
    [
        {"notes.txt": "mine"},
        {"lock": "", "status": "mine"},
        {"lock": "1234\n", "results.csv": "mine", f"points/{HASH}.json": "{}"},
        {"lock": "", "points/a.json": "{}"},
        {"results.csv": "mine"},
        {f"points/{HASH}.json": "{}"},
        {f"points/.{HASH}-12345678.json": "{}"},
    ],
)
def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path, files):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    before = contents(tmp_path)
    with pytest.raises(InputError, match="is not a folder of a sweep, and not empty"):
        opened(tmp_path)
    assert contents(tmp_path) == before


def test_a_new_an_empty_and_an_own_folder_are_taken(tmp_path):
    for root in (tmp_path / "new" / "deep", tmp_path / "empty"):
        root.parent.mkdir(exist_ok=True)
        assert opened(root) == ["lock", "points"]
        assert (root / "lock").read_text() == MARK
        (root / "notes.txt").write_text("a user's own")
        assert opened(root) == ["lock", "notes.txt", "points"]


@pytest.mark.parametrize(
    "files",
    [
        {"lock": ""},
        {"lock": "", "timing.csv": "", "results.csv": "", ".results-x1.csv": ""},
        {"lock": "", "figure.png": "", f"points/{HASH}.json": "{}"},
        {"lock": "", f"points/.{HASH}-k2v7.json": "{"},
    ],
)
def test_a_folder_from_before_locks_had_a_text_is_a_sweeps(tmp_path, files):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    opened(tmp_path)
    assert (tmp_path / "lock").read_text() == MARK
    assert not list(tmp_path.rglob(".*"))


@pytest.mark.parametrize("name", ["lock", "points", "results.csv", "results.parquet", "timing.csv"])
def test_a_link_where_a_sweep_writes_is_refused(tmp_path, name):
    root, victim = tmp_path / "sweep", tmp_path / "victim"
    opened(root)
    if name == "points":
        victim.mkdir()
        (victim / f".{HASH}-1.json").write_text("mine")
        (root / name).rmdir()
    else:
        victim.write_text("mine")
        (root / name).unlink(missing_ok=True)
    (root / name).symlink_to(victim)
    with pytest.raises(InputError, match=rf"{name}' is a symbolic link, which no sweep makes"):
        opened(root)
    assert b"mine" in contents(tmp_path).values()


def test_a_link_in_place_of_a_point_is_replaced_not_followed(tmp_path):
    folder = Folder(tmp_path / "sweep")
    (tmp_path / "victim").write_text("mine")
    with folder.open():
        (folder.points / f"{HASH}.json").symlink_to(tmp_path / "victim")
        (folder.root / "timing.csv").symlink_to(tmp_path / "victim")
        (folder.root / "results.csv").symlink_to(tmp_path / "victim")
        folder.put(HASH, {"status": "ok"})
        folder.put_results({"a": [1]})
        with pytest.raises(OSError, match="symbolic link"):
            folder.time(0, HASH, 1.0, 1)
    assert (tmp_path / "victim").read_text() == "mine"
    assert folder.get(HASH) == {"status": "ok"}


@ON_POSIX
@pytest.mark.parametrize("name", ["lock", "timing.csv"])
def test_a_fifo_where_a_sweep_writes_is_refused(tmp_path, name):
    opened(tmp_path)
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    with pytest.raises(InputError, match="is not a regular file"):
        opened(tmp_path)


def test_a_folder_has_one_sweep_at_a_time(tmp_path):
    with (
        Folder(tmp_path).open(),
        pytest.raises(InputError, match="is in use by another sweep"),
        Folder(tmp_path).open(),
    ):
        pass
    opened(tmp_path)


@pytest.fixture
def windows(monkeypatch):
    """Take away what Linux locks with, and give what Windows has: bytes that one handle holds."""
    held, places = set(), []

    def locking(number, how, count):
        assert (how, count) == ("no wait", 1)
        places.append(os.lseek(number, 0, os.SEEK_CUR))
        inode = os.fstat(number).st_ino
        if inode in held:
            raise PermissionError(errno.EACCES, "Permission denied")
        held.add(inode)

    monkeypatch.setitem(sys.modules, "fcntl", None)
    fake = types.SimpleNamespace(locking=locking, LK_NBLCK="no wait")
    monkeypatch.setitem(sys.modules, "msvcrt", fake)
    return places


@ON_POSIX
def test_windows_holds_a_byte_beyond_the_text(tmp_path, windows):
    with Folder(tmp_path).open():
        assert (tmp_path / "lock").read_text() == MARK
        with pytest.raises(InputError, match="is in use by another sweep"), Folder(tmp_path).open():
            pass
    assert min(windows) > len(MARK)
    assert (tmp_path / "lock").read_text() == MARK


@ON_POSIX
def test_a_system_that_cannot_lock_says_so(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(InputError, match="cannot be locked: No locks available"):
        opened(tmp_path)
