"""Imports point one way: what design says of the layers is held here."""

import ast
from pathlib import Path

import pytest

from tests.servers import ROOT

LAYERS = (
    {"run"},
    {"app"},
    {"blueprints"},
    {"forms", "guard", "throttle"},
    {
        *("headers", "keys", "listing", "logs", "overview", "panics", "sign_in"),
        *("tokens", "trail", "users"),
    },
    {"factors", "pings", "responses", "wording"},
    {"panel"},
    {"callback_doctor", "history", "page_less", "signed", "tally"},
    {"engine"},
    {"audit"},
    {"models"},
    {"database", "salesforce", "vault"},
    {"config"},
)
"""A module imports from the layers below its own, never beside or above."""
OWN = {name for layer in LAYERS for name in layer}
SOURCES = sorted(
    path
    for path in (*ROOT.glob("*.py"), *ROOT.glob("*/*.py"))
    if path.relative_to(ROOT).parts[0].removesuffix(".py") in OWN | {"practice_org"}
)


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Return the top-level names that a module imports, by any spelling."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where things come from"
            names.add(str(node.module))
    return names


def depth(name: str) -> int:
    return next(at for at, layer in enumerate(LAYERS) if name in layer)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_from_below(path: Path) -> None:
    here = room(path)
    others = {name.partition(".")[0] for name in imports(path)} - {here}
    if here == "practice_org":
        assert not others & OWN
    elif here != "run":
        assert "practice_org" not in others
        assert all(depth(name) > depth(here) for name in others & OWN)


def test_blueprints_do_not_import_each_other() -> None:
    for path in (ROOT / "blueprints").glob("*.py"):
        assert not {name for name in imports(path) if name.startswith("blueprints")}


def test_the_sources_were_found() -> None:
    assert {room(path) for path in SOURCES} == OWN | {"practice_org"}
