"""Files are written whole or not at all."""

import os
import resource
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from cllm.files import atomic_file


def write(path: Path, content: bytes) -> None:
    with atomic_file(path) as file:
        file.write(content)


def test_a_new_file_has_the_content_and_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    path, plain = tmp_path / "new", tmp_path / "plain"
    write(path, b"content")
    plain.touch()
    assert path.read_bytes() == b"content"
    assert path.stat().st_mode == plain.stat().st_mode


def test_the_path_keeps_its_old_content_until_the_new_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old and longer")
    with atomic_file(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old and longer"
    assert path.read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit, SystemExit])
@pytest.mark.parametrize("old", [b"old", None])
def test_an_exception_leaves_everything_as_it_was(
    tmp_path: Path, error: type[BaseException], old: bytes | None
) -> None:
    path = tmp_path / "file"
    if old is not None:
        path.write_bytes(old)
    with pytest.raises(error), atomic_file(path) as file:  # noqa: PT012
        file.write(b"half")
        raise error
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == ({"file": old} if old else {})


def test_it_can_be_read_back_and_changed_before_it_is_complete(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "file") as file:
        file.write(b"0123")
        file.seek(0)
        assert file.read(2) == b"01"
        file.seek(0)
        file.write(b"X")
    assert (tmp_path / "file").read_bytes() == b"X123"


def test_a_file_that_cannot_grow_is_reported_by_its_own_name(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"File too large: .*file") as caught:
            write(path, bytes(10**6))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.filename == str(path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"file": b"old"}


def test_a_missing_folder_is_reported_by_the_wanted_name(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "file"
    with pytest.raises(FileNotFoundError) as caught:
        write(path, b"")
    assert caught.value.filename == str(path)


def test_an_error_of_another_file_keeps_its_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught, atomic_file(tmp_path / "file"):
        (tmp_path / "other").read_bytes()
    assert caught.value.filename == str(tmp_path / "other")


def test_a_symbolic_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    target, link = tmp_path / "folder" / "target", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    write(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


def test_what_is_no_regular_file_stays_what_it_is(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name, is_kind in (("pipe", stat.S_ISFIFO), ("folder", stat.S_ISDIR)):
        with pytest.raises(OSError, match="not a regular file"):
            write(tmp_path / name, b"")
        assert is_kind((tmp_path / name).stat().st_mode)
    assert {p.name for p in tmp_path.iterdir()} == {"folder", "pipe"}


def test_the_longest_name_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("x" * os.pathconf(tmp_path, "PC_NAME_MAX"))
    write(path, b"content")
    assert path.read_bytes() == b"content"


def test_the_content_is_synced_before_the_rename_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    fsync, replace = os.fsync, os.replace

    def recording_fsync(descriptor: int) -> None:
        info = os.fstat(descriptor)
        calls.append("sync folder" if stat.S_ISDIR(info.st_mode) else f"sync {info.st_size} bytes")
        fsync(descriptor)

    def recording_replace(source: Path, target: Path) -> None:
        calls.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", recording_fsync)
    monkeypatch.setattr(os, "replace", recording_replace)
    write(tmp_path / "file", b"content")
    assert calls == ["sync 7 bytes", "rename", "sync folder"]


def test_a_kill_while_writing_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    program = (
        "import os, signal, sys; from pathlib import Path; from cllm.files import atomic_file\n"
        "with atomic_file(Path(sys.argv[1])) as file:\n"
        "    file.write(b'new'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", program, path], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
