"""The rules of the rooms, read off the files. ARCHITECTURE.md says what they are for."""

from __future__ import annotations

import ast
import os
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
CRATES = ROOT / "crates"
BINDING = CRATES / "carboy-python"
LEAVES = sorted(path for path in CRATES.iterdir() if path.is_dir() and path != BINDING)

LONGEST_FILE_LINES = 800
NOT_OURS = {
    *(".git", ".venv", ".build", "target", "dist", "__pycache__"),
    *(".pytest_cache", ".mypy_cache", ".ruff_cache"),
}
TEXT_SUFFIXES = {
    *(".rs", ".py", ".pyi", ".md", ".toml", ".txt", ".css", ".js", ".html", ".csv", ".json"),
    *("", ".yml", ".yaml", ".sh"),
}
NAMES_THAT_SAY_NOTHING = {"common", "helper", "helpers", "misc", "stuff", "util", "utils"}


def walk(directory: Path = ROOT) -> Iterator[Path]:
    """Give the files of the repository, without what is built."""
    for folder, names, files in os.walk(directory):
        names[:] = sorted(name for name in names if name not in NOT_OURS)
        for name in sorted(files):
            yield Path(folder, name)


def texts(*suffixes: str, under: Path = ROOT) -> Iterator[tuple[str, str]]:
    """Give path and content of the files with these suffixes, or of all text files."""
    wanted = set(suffixes) or TEXT_SUFFIXES
    for path in walk(under):
        if path.suffix in wanted:
            yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")


def rust_code(text: str) -> str:
    """Blank the comments and the strings of Rust source, line by line."""

    def blank(match: re.Match[str]) -> str:
        return "\n" * match[0].count("\n")

    pattern = r'//[^\n]*|/\*.*?\*/|b?r(#+)".*?"\1|b?"(?:\\.|[^"\\])*"'
    return re.sub(pattern, blank, text, flags=re.DOTALL)


def lines_with(pattern: str, text: str) -> list[int]:
    return [number for number, line in enumerate(text.splitlines(), 1) if re.search(pattern, line)]


def found(pattern: str, *, under: Path, allowed: tuple[str, ...] = ()) -> list[str]:
    """Say where Rust code matches, outside of the allowed files."""
    return [
        f"{path}:{line}"
        for path, text in texts(".rs", under=under)
        if not path.endswith(allowed or ("\0",))
        for line in lines_with(pattern, rust_code(text))
    ]


def manifest(crate: Path) -> dict[str, Any]:
    return tomllib.loads((crate / "Cargo.toml").read_text())


def dependencies(crate: Path) -> set[str]:
    tables = ("dependencies", "dev-dependencies", "build-dependencies")
    return {name for table in tables for name in manifest(crate).get(table, {})}


# The star: pure leaves, one binding crate, thin Python.


@pytest.mark.parametrize("crate", LEAVES, ids=lambda crate: crate.name)
def test_leaf_knows_neither_python_nor_another_leaf(crate: Path) -> None:
    names = dependencies(crate)
    assert not {name for name in names if name.startswith(("carboy", "pyo3"))}
    assert manifest(crate)["lints"] == {"workspace": True}


def test_unsafe_code_is_forbidden_but_in_the_binding() -> None:
    workspace = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]
    assert workspace["lints"]["rust"]["unsafe_code"] == "forbid"
    own, shared = manifest(BINDING)["lints"], workspace["lints"]
    assert own["rust"] == shared["rust"] | {"unsafe_code": "deny"}
    assert shared["clippy"].items() <= own["clippy"].items()
    assert own["clippy"]["undocumented_unsafe_blocks"] == "warn"


def test_unsafe_code_is_only_in_ffi_and_says_why_it_is_sound() -> None:
    assert not [
        place
        for place in found(
            r"\bunsafe\s*(\{|\(|fn|impl|trait|extern)|(allow|expect)\(unsafe_code", under=CRATES
        )
        if not place.startswith("crates/carboy-python/src/ffi/")
    ]
    for path, text in texts(".rs", under=BINDING / "src" / "ffi"):
        lines = text.splitlines()
        for number in lines_with(r"\bunsafe (\{|impl|fn|extern)", rust_code(text)):
            above = []
            for line in reversed(lines[: number - 1]):
                if not line.strip().startswith("//"):
                    # The start of a statement that goes on to the block.
                    if above or line.rstrip().endswith((";", "{", "}")):
                        break
                    continue
                above.append(line.strip())
            comment = " ".join(reversed(above))
            assert "// SAFETY: " in comment, f"{path}:{number} does not say why it is sound"
            assert comment.endswith("."), f"{path}:{number}: the reason is not a sentence"


# One door for each danger.


def test_nothing_leaves_the_thread_of_the_loop_or_blocks_it() -> None:
    assert not found(r"tokio::spawn\b|\bspawn_blocking\b|task::spawn\b", under=CRATES)
    assert not found(r"\bthread::sleep\b", under=CRATES)


def test_local_tasks_are_started_at_three_doors() -> None:
    doors = (
        "carboy-python/src/runtime.rs",
        "carboy-server/src/connection_set.rs",
        "carboy-client/src/connection.rs",
    )
    for crate in (BINDING, *LEAVES):
        assert not found(r"\bspawn_local\b", under=crate / "src", allowed=doors)
    assert not found(r"tokio::runtime\b", under=BINDING / "src", allowed=("src/runtime.rs",))


def test_the_gil_is_given_back_at_two_doors() -> None:
    doors = ("src/attach.rs", "src/ffi/thread_state.rs")
    pattern = r"\.detach\(|\ballow_threads\b|\bPyEval_\w+|\bPyGILState_\w+"
    assert not found(pattern, under=BINDING / "src", allowed=doors)


def test_contexts_are_entered_and_left_by_ffi_only() -> None:
    pattern = r"\bPyContext_(Enter|Exit|New|CopyCurrent)\b"
    assert not found(pattern, under=BINDING / "src", allowed=("src/ffi/context.rs",))


def test_python_names_are_imported_in_one_file() -> None:
    pattern = r"\.import\(|PyModule::import\b"
    assert not found(pattern, under=BINDING / "src", allowed=("src/names.rs",))


def test_only_the_driver_knows_tokio_in_the_event_loop() -> None:
    source = CRATES / "carboy-event-loop" / "src"
    assert not found(r"\btokio\b", under=source, allowed=("src/driver.rs",))


# Files.


def test_names_say_what_a_file_is_for() -> None:
    named = [path for path in walk() if path.stem.lower() in NAMES_THAT_SAY_NOTHING]
    named += [path for path in walk() if NAMES_THAT_SAY_NOTHING & set(path.parent.parts)]
    assert not named


def test_no_file_is_too_long() -> None:
    assert not {
        path: len(text.splitlines())
        for path, text in texts(".rs", ".py", ".pyi", ".md", ".css", ".js", ".html")
        if len(text.splitlines()) > LONGEST_FILE_LINES
    }


def test_no_path_of_somebodys_machine() -> None:
    assert not [
        f"{path}:{line}"
        for path, text in texts()
        for line in lines_with(r"/(home|root|Users)/", text)
    ]


def test_test_modules_have_names_of_their_own() -> None:
    # pytest imports them by their names alone, and takes two of one name for a mistake.
    names = [path.name for path in walk(ROOT / "tests") if path.match("test_*.py")]
    assert sorted(names) == sorted(set(names))


# Exceptions have reasons.


def test_suppressed_lints_have_reasons() -> None:
    for path, text in texts(".rs"):
        for match in re.finditer(r"#!?\[(?:allow|expect)\((.*?)\)\]", text, re.DOTALL):
            assert "reason = " in match[1], f"{path}: {match[0]}"
    for path, text in texts(".py", ".pyi", under=ROOT / "src"):
        for match in re.finditer(r"#\s*noqa(.*)", text):
            assert re.match(r": [A-Z0-9, ]+ - \S", match[1]), f"{path}: {match[0]}"


def call_name(node: ast.expr) -> str:
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join(reversed([*parts, node.id])) if isinstance(node, ast.Name) else ""


def skips_without_reason(tree: ast.AST) -> Iterator[int]:
    marks = {"pytest.mark.skip", "pytest.mark.skipif", "pytest.mark.xfail"}
    calls = {"pytest.skip", "pytest.xfail", "pytest.importorskip"}
    reasoned = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = call_name(node.func)
            has_reason = any(keyword.arg == "reason" for keyword in node.keywords)
            if name in marks and has_reason:
                reasoned.add(id(node.func))
            if (
                name in calls
                and not has_reason
                and (name.endswith("importorskip") or not node.args)
            ):
                yield node.lineno
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Attribute)
            and call_name(node) in marks
            and id(node) not in reasoned
        ):
            yield node.lineno


def test_left_out_tests_have_reasons() -> None:
    for path, text in texts(".py", under=ROOT / "tests"):
        assert not list(skips_without_reason(ast.parse(text))), path
    for path, text in texts(".rs"):
        assert not lines_with(r"#\[ignore\]", text), path


# Documents.


def architecture() -> str:
    return (ROOT / "ARCHITECTURE.md").read_text()


def named_paths(text: str) -> set[str]:
    """Give what a document names in backquotes and looks like a path of the repository."""
    tops = "|".join(re.escape(path.name) for path in ROOT.iterdir() if path.name not in NOT_OURS)
    return set(re.findall(rf"`((?:{tops})(?:/[\w./*-]*)?)(?:::\w+)?`", text))


def test_architecture_names_files_that_exist() -> None:
    paths = named_paths(architecture())
    assert len(paths) > 30
    assert not [path for path in sorted(paths) if not list(ROOT.glob(path.rstrip("/")))]


def test_architecture_names_every_file_of_the_source() -> None:
    text = architecture()
    sources = [*(crate / "src" for crate in (BINDING, *LEAVES)), ROOT / "src" / "carboy"]
    missing = []
    for source in sources:
        # The code map has a heading for each source folder, and paths below it.
        heading = f"### `{source.relative_to(ROOT).as_posix()}`"
        assert heading in text, f"the code map has no part {heading}"
        part = text.partition(heading)[2].partition("\n#")[0]
        named = re.findall(r"^\| `([\w./]+)` \|", part, re.MULTILINE)
        assert not [path for path in named if not (source / path).is_file()]
        missing += [
            path.relative_to(ROOT).as_posix()
            for path in walk(source)
            if path.suffix in {".rs", ".py", ".pyi"}
            and path.name not in {"mod.rs", "__init__.py"}
            and f"`{path.relative_to(source).as_posix()}`" not in part
        ]
    assert not missing, "say in a line of the code map what each of these is for"


def test_architecture_names_tests_that_exist() -> None:
    named = re.findall(r"`([\w./-]+\.(?:py|rs))::(\w+)`", architecture())
    assert len(named) >= 10
    for path, test in named:
        assert re.search(rf"\b(def|fn) {test}\b", (ROOT / path).read_text()), f"{path}::{test}"


def test_links_between_documents_lead_somewhere() -> None:
    for path, text in texts(".md"):
        folder = (ROOT / path).parent
        for target in re.findall(r"\]\(([^)#\s]+)", text):
            if "://" not in target and not target.startswith("mailto:"):
                assert (folder / target).exists(), f"{path} links to {target}"


def test_readme_names_the_two_commands_and_the_checks_run_them() -> None:
    readme = (ROOT / "README.md").read_text()
    checks = (ROOT / ".ci" / "run").read_text()
    for command in ("make demo", "make test"):
        assert re.search(rf"^{command}\b", readme, re.MULTILINE)
        assert re.search(rf"^step {command}\b", checks, re.MULTILINE)
