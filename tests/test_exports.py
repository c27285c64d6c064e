"""The public names are those that are meant to be public, and the stub tells the truth."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from pathlib import Path
from types import ModuleType

import pytest

import carboy
from carboy import _carboy

STUB = Path(carboy.__file__).with_name("_carboy.pyi")
#: Parts of it, for its length.
PARTS = [STUB.with_name("_carboy_event_loop.pyi"), STUB.with_name("_carboy_promises.pyi")]
# Importing it starts the command.
MODULES = sorted(
    {"carboy"}
    | {module.name for module in pkgutil.walk_packages(carboy.__path__, "carboy.")}
    - {"carboy.__main__"}
)


def is_special(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def test_package_exports_every_public_name() -> None:
    # Those that need Flask are imported when they are asked for.
    assert {name for name in carboy.__all__ if not hasattr(carboy, name)} == set()
    public = {
        name
        for name, value in vars(carboy).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert set(carboy.__all__) == public


@pytest.mark.parametrize("name", MODULES)
def test_exported_names_are_sorted_exist_and_are_documented(name: str) -> None:
    module = importlib.import_module(name)
    assert inspect.getdoc(module)
    exported = getattr(module, "__all__", [])
    if name != "carboy._carboy":
        assert list(exported) == sorted(exported)
    for public in exported:
        value = getattr(module, public)
        if callable(value):
            assert inspect.getdoc(value), f"{name}.{public}"


def test_package_is_marked_as_typed() -> None:
    assert STUB.with_name("py.typed").exists()


def members(node: ast.ClassDef | ast.Module) -> dict[str, ast.stmt]:
    declared: dict[str, ast.stmt] = {}
    for statement in node.body:
        match statement:
            case (
                ast.ClassDef(name=name)
                | ast.FunctionDef(name=name)
                | ast.AsyncFunctionDef(name=name)
            ):
                declared[name] = statement
            case ast.AnnAssign(target=ast.Name(id=name)) if isinstance(node, ast.ClassDef):
                declared[name] = statement
    return declared


def test_stub_has_the_names_of_the_binary() -> None:
    stub = members(ast.parse(STUB.read_text()))
    for part in PARTS:
        of_part = members(ast.parse(part.read_text()))
        assert not stub.keys() & of_part.keys()
        stub |= of_part
    shared = stub.pop("_Handle")
    assert isinstance(shared, ast.ClassDef)
    assert set(stub) == {name for name in vars(_carboy) if not is_special(name)}
    for name, declared in stub.items():
        if not isinstance(declared, ast.ClassDef):
            continue
        inherits = any(
            isinstance(base, ast.Name) and base.id == "_Handle" for base in declared.bases
        )
        names = set(members(declared)) | (set(members(shared)) if inherits else set())
        native = {member for member in vars(getattr(_carboy, name)) if not is_special(member)}
        assert {member for member in names if not is_special(member)} == native, name
