"""Text files: each once, in an order of their own, others counted by reason, any size in pieces."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cllm import CllmError
from cllm.text import text_files
from cllm.text.text_files import SKIPPED_SUFFIXES, cut, find_texts, read_pieces


def make(folder: Path, **files: bytes) -> None:
    for name, content in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def names(folder: Path, *paths: Path) -> list[str]:
    return [text.path.relative_to(folder).as_posix() for text in find_texts(paths or [folder])[0]]


def test_files_come_from_all_folders_in_the_order_of_their_paths(tmp_path: Path) -> None:
    make(tmp_path, b=b"1", a__z__y=b"2", a__b=b"3", c__a=b"4", B=b"5")
    (tmp_path / "a-b").write_bytes(b"6")
    wanted = ["B", "a/b", "a/z/y", "a-b", "b", "c/a"]
    assert names(tmp_path) == wanted
    several = [tmp_path / "c", tmp_path / "b", tmp_path / "a", tmp_path / "a-b", tmp_path / "B"]
    for paths in itertools.permutations(several):
        assert names(tmp_path, *paths) == wanted


def test_the_order_of_a_listing_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, a__1=b"1", a__2=b"2", b__3=b"3", c=b"4")
    (tmp_path / "d").symlink_to("a")
    (tmp_path / "0").symlink_to("b/3")
    wanted = ["0", "a/1", "a/2", "c"]
    listing = Path.iterdir

    def backwards(path: Path) -> Iterator[Path]:
        return iter(sorted(listing(path), reverse=True))

    assert names(tmp_path) == wanted
    monkeypatch.setattr(Path, "iterdir", backwards)
    assert names(tmp_path) == wanted


def test_each_file_comes_once_whatever_leads_to_it(tmp_path: Path) -> None:
    make(tmp_path, real__a=b"text", real__sub__b=b"text")
    (tmp_path / "file-link").symlink_to("real/a")
    (tmp_path / "folder-link").symlink_to("real")
    os.link(tmp_path / "real" / "a", tmp_path / "hard-link")
    (tmp_path / "real" / "sub" / "up").symlink_to("../..")
    (tmp_path / "real" / "itself").symlink_to(".")
    paths = [tmp_path, tmp_path, tmp_path / "real" / ".." / "real"]
    texts, skipped = find_texts(paths)
    assert sorted(os.path.realpath(text.path) for text in texts) == [
        os.path.realpath(tmp_path / "real" / name) for name in ("a", "sub/b")
    ]
    assert not skipped
    # Same content in another file is another text.
    make(tmp_path, copy=b"text")
    assert len(find_texts(paths)[0]) == 3


def test_files_are_skipped_by_what_their_name_says(tmp_path: Path) -> None:
    for kind, suffixes in SKIPPED_SUFFIXES.items():
        for i, suffix in enumerate(suffixes.split()):
            (tmp_path / f"{kind}{i}{suffix.upper() if i % 2 else suffix}").write_text("text")
    for folder in ("__pycache__", "node_modules", ".git", ".venv"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "text.txt").write_text("text")
    (tmp_path / ".hidden").write_text("text")
    for name in ("a.txt", "png", "a.png.py", "README", "x.svg"):
        (tmp_path / name).write_text("text")
    texts, skipped = find_texts([tmp_path])
    assert [text.path.name for text in texts] == ["README", "a.png.py", "a.txt", "png", "x.svg"]
    by_kind = {kind: len(suffixes.split()) for kind, suffixes in SKIPPED_SUFFIXES.items()}
    assert dict(skipped) == by_kind | {"folder": 2, "hidden": 3}


def test_what_is_named_is_always_tried(tmp_path: Path) -> None:
    folder = tmp_path / ".hidden"
    make(folder, a=b"1", sub__b=b"2")
    (folder / "x.png").write_text("text")
    (folder / "y.png").write_text("text")
    assert names(folder) == ["a", "sub/b"]
    assert names(folder, folder / "x.png") == ["x.png"]
    for paths in ([folder, folder / "x.png"], [folder / "x.png", folder]):
        texts, skipped = find_texts(paths)
        assert [text.path.name for text in texts] == ["a", "b", "x.png"]
        assert dict(skipped) == {"image": 1}


def test_what_cannot_be_read_as_text_is_counted_by_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(
        tmp_path,
        good="naïve".encode(),
        empty=b"",
        nul=b"text\0text",
        utf16="text".encode("utf-16"),
        latin="naïve".encode("latin-1"),
        cut_off="naï".encode()[:-1],
        surrogate=b"\xed\xa0\x80",
        secret=b"text",
        closed__a=b"text",
    )
    (tmp_path / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    opened, listed = Path.open, Path.iterdir

    def guarded_open(path: Path, mode: str) -> object:
        if path.name == "secret":
            raise PermissionError(13, "Permission denied")
        return opened(path, mode)

    def guarded_list(path: Path) -> Iterator[Path]:
        if path.name == "closed":
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(Path, "open", guarded_open)
    monkeypatch.setattr(Path, "iterdir", guarded_list)
    texts, skipped = find_texts([tmp_path])
    assert [text.path.name for text in texts] == ["good"]
    assert dict(skipped) == {
        "empty": 1,
        "binary": 2,
        "not UTF-8": 3,
        "unreadable": 3,
        "special": 1,
    }


def test_what_is_wrong_may_lie_anywhere_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_files, "BLOCK", 4)
    make(tmp_path, a=b"x" * 9 + b"\0", b=b"x" * 9 + b"\xff", c="xé€😀".encode() * 9)
    texts, skipped = find_texts([tmp_path])
    assert [text.path.name for text in texts] == ["c"]
    assert dict(skipped) == {"binary": 1, "not UTF-8": 1}


@pytest.mark.parametrize("name", ["missing", "dangling", "file/inside"])
def test_a_path_that_is_not_there_is_refused(tmp_path: Path, name: str) -> None:
    make(tmp_path, file=b"text")
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(CllmError, match=f"{tmp_path}/{name}: No(t a| such)"):
        find_texts([tmp_path, tmp_path / name])


@pytest.mark.parametrize("block", [1, 2, 3, 1000])
def test_the_text_is_exact_and_its_reading_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(text_files, "BLOCK", block)
    content = "\ufeffline\r\n\n\té€ 😀\x1a\x85 end\r".encode()
    make(tmp_path, file=content)
    (file,), _ = find_texts([tmp_path])
    sizes: list[int] = []
    pieces = list(read_pieces(file, sizes.append))
    assert "".join(pieces).encode() == content
    assert sum(sizes) == file.size == len(content)
    assert max(sizes) <= block
    assert (len(pieces) > 1) == (block < 1000)


@pytest.mark.parametrize("now", [b"texT", b"text more", b"tex", b"tex\xff", None])
def test_a_file_that_changes_after_it_was_found_is_refused(
    tmp_path: Path, now: bytes | None
) -> None:
    make(tmp_path, file=b"text")
    (file,), _ = find_texts([tmp_path])
    file.path.unlink() if now is None else file.path.write_bytes(now)
    with pytest.raises(CllmError, match=f"{file.path}: (was changed|could be read at first)"):
        list(read_pieces(file, lambda size: None))


blocks = st.lists(st.text("  \n\n\t\r\x85ab.é", max_size=9), max_size=9)


@settings(deadline=None)
@given(blocks)
def test_pieces_add_up_to_the_text_and_end_where_they_may(given_blocks: list[str]) -> None:
    pieces = list(cut(given_blocks))
    assert "".join(pieces) == "".join(given_blocks)
    for piece, following in itertools.pairwise(pieces):
        assert following[0] in " \n"
        assert not piece[-1].isspace()


@settings(deadline=None)
@given(blocks, st.integers(1, 12))
def test_no_piece_is_long_with_or_without_a_place_to_cut(
    given_blocks: list[str], uncut: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_files, "UNCUT", uncut)
        pieces = list(cut(given_blocks))
    assert "".join(pieces) == "".join(given_blocks)
    longest_block = max(map(len, given_blocks), default=0)
    assert all(0 < len(piece) < uncut + longest_block for piece in pieces)


def test_a_long_line_is_cut_after_so_many_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "UNCUT", 5)
    assert list(cut(["a b", "cdefghijk", "lmn o", "p"])) == ["a", " bcde", "fghij", "klmn", " op"]
