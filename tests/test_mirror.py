"""`optimized/` mirrors `reference/`: the same files, functions and signatures."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil

import pytest

import cllm.optimized
import cllm.reference
from cllm.harness.pairs.pair import find_function
from cllm.harness.pairs.table import PAIRS

NETWORK = {"network", "model"}
"""The order of operations and the class around it: held against each other as whole models."""


def reference_functions() -> list[tuple[str, str]]:
    found = []
    for module in pkgutil.iter_modules(cllm.reference.__path__):
        if module.name in NETWORK:
            continue
        source = inspect.getsource(importlib.import_module(f"cllm.reference.{module.name}"))
        found += [
            (module.name, node.name)
            for node in ast.parse(source).body
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
        ]
    return found


def test_every_public_function_of_the_reference_is_in_the_table() -> None:
    for room, functions in (("reference", "reference"), ("optimized", "candidate")):
        wanted = sorted({f"cllm.{room}.{module}:{name}" for module, name in reference_functions()})
        assert sorted({getattr(pair, functions) for pair in PAIRS}) == wanted


@pytest.mark.parametrize(("module", "name"), reference_functions())
def test_namesake_has_the_same_signature(module: str, name: str) -> None:
    reference = getattr(importlib.import_module(f"cllm.reference.{module}"), name)
    optimized = getattr(importlib.import_module(f"cllm.optimized.{module}"), name)
    wanted = [*inspect.signature(reference).parameters]
    found = inspect.signature(optimized).parameters
    assert [name for name in found if name != "threads"] == wanted
    if "threads" in found:
        assert found["threads"].kind is inspect.Parameter.KEYWORD_ONLY
        assert found["threads"].default == 1


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_the_table_names_every_argument(pair) -> None:
    named = {*pair.axes, *pair.scalars}
    assert named == set(inspect.signature(find_function(pair.reference)).parameters)


def test_the_folders_hold_the_same_files() -> None:
    names = {module.name for module in pkgutil.iter_modules(cllm.reference.__path__)}
    mirror = {module.name for module in pkgutil.iter_modules(cllm.optimized.__path__)}
    assert names <= mirror
    assert mirror - names == {"arguments", "batch", "kernels", "reduction", "region"}
