"""The package built with sanitizers, the checks on it, and planted defects that must be seen.

    python tests/sanitizers/run.py [--address] [--thread]

Promises: exit status 0 only where every check held without a report and every defect was reported;
what is not installed is an error, never a skip.
Leaves out: finding the sanitizers and reading their reports (`cllm.harness.sanitizers`).
"""

from __future__ import annotations

import argparse
import os
import runpy
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
TESTS = ("test_operations.py", "test_optimized.py")
"""Every operation, and every instruction-set level."""

SETTINGS = {
    "address": ("-Db_sanitize=address,undefined",),
    "thread": ("-Db_sanitize=thread", "-Dopenmp=enabled"),
}
OPTIONS = {"address": "ASAN_OPTIONS", "thread": "TSAN_OPTIONS"}
EVERYWHERE = ("-Db_lundef=false", "-Dbuildtype=debugoptimized", "-Doptimization=1")


def install(sanitizer: str, compiler: str) -> None:
    """Build the package and install it in place of what this environment has."""
    options = (*SETTINGS[sanitizer], *EVERYWHERE)
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-build-isolation"),
            f"-Cbuilddir={CHECKOUT / 'build' / sanitizer}",
            *(f"-Csetup-args={option}" for option in options),
            str(CHECKOUT),
        ],
        env={**os.environ, "CC": compiler},
        check=True,
    )


def run(sanitizer: str, variables: dict[str, str]) -> bool:
    """Whether all went as it must."""
    environment = {**os.environ, **variables}
    checks = Path(__file__).with_name("checks.py")
    held = subprocess.run([sys.executable, str(checks), sanitizer], env=environment, check=False)
    with tempfile.TemporaryDirectory() as folder:
        environment[OPTIONS[sanitizer]] += f":log_path={folder}/log"
        tests = [str(CHECKOUT / "tests" / name) for name in TESTS]
        passed = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests],
            env=environment,
            cwd=CHECKOUT,
            check=False,
        )
        reports = [path.read_text(errors="replace") for path in Path(folder).iterdir()]
    print(*reports, sep="\n")
    return held.returncode == 0 and passed.returncode == 0 and not reports


def main() -> int:
    """0 where all went as it must, else 1."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for sanitizer in SETTINGS:
        parser.add_argument(f"--{sanitizer}", action="store_true", help="this one alone")
    wanted = vars(parser.parse_args())
    chosen = [name for name in SETTINGS if wanted[name] or not any(wanted.values())]
    sanitizers = runpy.run_path(str(CHECKOUT / "harness" / "sanitizers.py"))
    variables = {}
    for sanitizer in chosen:
        try:
            variables[sanitizer] = sanitizers["environment"](sanitizer)
        except FileNotFoundError as error:
            print(f"Error: {error}", file=sys.stderr)
            return 1
    good = True
    for sanitizer in chosen:
        start = time.monotonic()
        install(sanitizer, sanitizers["COMPILERS"][sanitizer])
        built = time.monotonic()
        print(f"\n{sanitizer} sanitizer: built in {built - start:.0f} s", flush=True)
        good = run(sanitizer, variables[sanitizer]) and good
        print(f"{sanitizer} sanitizer: run in {time.monotonic() - built:.0f} s", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
