"""A PostgreSQL server of our own, in a temporary folder, behind a socket alone."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

PLACES = "/usr/lib/postgresql"
"""Where Debian keeps what is not on the path."""


def program(name: str) -> str:
    """The newest there is."""
    found = sorted(Path(PLACES).glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    path = shutil.which(name) or (str(found[-1]) if found else None)
    assert path is not None, f"these tests need PostgreSQL's {name} (Debian: postgresql)"
    return path


@pytest.fixture(scope="session")
def server() -> Iterator[Path]:
    """The folder of its socket. It refuses to be root, so root starts it as nobody."""
    folder = Path(tempfile.mkdtemp(prefix="postgresql-"))  # pytest's own are closed to others
    user: dict[str, Any] = {}
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    options: dict[str, Any] = {**user, "cwd": folder, "check": True, "stdout": subprocess.DEVNULL}
    data = folder / "data"
    subprocess.run(
        [program("initdb"), "-D", data, "-U", "tester", "-A", "trust", "-E", "UTF8", "--no-sync"],
        **options,
    )
    control = [program("pg_ctl"), "-D", data, "-w", "-t", "60", "-l", folder / "log"]
    settings = f"-k {folder} -c listen_addresses='' -c fsync=off"
    subprocess.run([*control, "-o", settings, "start"], **options)
    try:
        yield folder
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], **options)
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def new_database(server: Path) -> Callable[[], str]:
    """Makes an empty database; its URL."""
    numbers = count()

    def make() -> str:
        name = f"history_{next(numbers)}"
        subprocess.run([program("createdb"), "-h", server, "-U", "tester", name], check=True)
        return f"postgresql://tester@/{name}?host={server}"

    return make


@pytest.fixture
def url(new_database: Callable[[], str]) -> str:
    return new_database()
