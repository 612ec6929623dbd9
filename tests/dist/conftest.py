"""Where the built distributions lie."""

from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--distributions", type=Path, required=True, help="folder of sdist and wheel")
