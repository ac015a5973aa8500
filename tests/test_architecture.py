"""The rules of the house: who imports whom, how long files and functions are, which names are public."""

import ast
import importlib
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from lamina.core.absent import not_there

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "lamina"
FILES = sorted(SOURCE.rglob("*.py"))
NOT_THERE_YET = list(not_there())

# A file imports from levels above its own, never up, and within a level only as SIDEWAYS says.
LEVELS = {
    **dict.fromkeys(["core"], 0),
    **dict.fromkeys(["ops", "random"], 1),
    **dict.fromkeys(["activations", "initializers", "regularizers", "constraints", "data"], 2),
    **dict.fromkeys(["layer", "losses", "optimizers", "saving", "callbacks"], 3),
    **dict.fromkeys(["layers", "metrics"], 4),
    **dict.fromkeys(["training"], 5),
    **dict.fromkeys(["models"], 6),
    **dict.fromkeys(["config", "backend", "tree", "dtype_policies", "utils"], 7),
    **dict.fromkeys(["datasets"], 8),
    **dict.fromkeys(["__init__"], 9),
}
SIDEWAYS = {("ops", "random"), ("backend", "config"), ("utils", "backend")}
NEVER = {("training", "layers"), ("training", "models")}
LONG_FILES = {"ops/numpy.py", "ops/nn.py"}
LONGEST_FILE, LONGEST_FUNCTION = 500, 40
# Imported when first used; scipy comes with JAX and is slow to load.
OPTIONAL = {"scipy", "optax", "matplotlib", "pandas", "tensorflow", "torch", "grain", "IPython"}


def name_of(path: Path) -> str:
    return str(path.relative_to(SOURCE))


def package_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def only_for_types(path: Path) -> set[int]:
    """The lines under `if TYPE_CHECKING:`."""
    blocks = [n for n in ast.walk(tree_of(path)) if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.unparse(n.test)]
    return {line for block in blocks for line in range(block.lineno, (block.end_lineno or block.lineno) + 1)}


def own_imports(path: Path) -> set[str]:
    """The modules of the library that a file imports, as `lamina.package.file`."""
    found, skipped = set(), only_for_types(path)
    for node in ast.walk(tree_of(path)):
        if (
            isinstance(node, ast.ImportFrom)
            and (node.module or "").split(".")[0] == "lamina"
            and node.lineno not in skipped
        ):
            for alias in node.names:
                inner = SOURCE.joinpath(*node.module.split(".")[1:], alias.name)
                is_module = inner.with_suffix(".py").exists() or inner.is_dir()
                found.add(f"{node.module}.{alias.name}" if is_module else node.module)
        elif isinstance(node, ast.Import):
            found.update(a.name for a in node.names if a.name.split(".")[0] == "lamina" and node.lineno not in skipped)
    return found


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_imports_only_what_lies_below_it(path):
    own = package_of(path)
    for module in own_imports(path):
        other = (module.split(".")[1:] or ["__init__"])[0]
        allowed = LEVELS[other] < LEVELS[own] or other == own or (own, other) in SIDEWAYS
        assert allowed, f"{name_of(path)} imports {module}, which does not lie below it"
        assert (own, other) not in NEVER


def test_every_package_has_a_level():
    assert {package_of(path) for path in FILES} == set(LEVELS)


def module_of(path: Path) -> str:
    return ".".join(["lamina", *path.relative_to(SOURCE).with_suffix("").parts]).removesuffix(".__init__")


def test_no_file_imports_itself_around_corners():
    graph = {module_of(path): own_imports(path) - {module_of(path)} for path in FILES}
    finished: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, f"a cycle: {' -> '.join([*above[above.index(module) :], module])}"
        if module not in finished:
            for other in graph.get(module, ()):
                # A package's __init__ re-exports its files, which may name the package of others only.
                if not (module.startswith(f"{other}.") or other == "lamina"):
                    visit(other, (*above, module))
            finished.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_stand_at_the_top_but_of_optional_packages(path):
    for function in ast.walk(tree_of(path)):
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for node in ast.walk(function):
                if isinstance(node, (ast.Import, ast.ImportFrom)):
                    roots = {
                        (n or "").split(".")[0]
                        for n in ([node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names])
                    }
                    assert roots <= OPTIONAL, f"{name_of(path)}:{node.lineno} hides an import of {roots - OPTIONAL}"


@pytest.mark.parametrize("path", [p for p in FILES if name_of(p) not in LONG_FILES], ids=name_of)
def test_a_file_is_short(path):
    assert len(path.read_text().splitlines()) <= LONGEST_FILE


def lines_of_code(function: ast.FunctionDef) -> int:
    """The lines of a function's body that hold code: no signature, docstring, comment or blank line."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    lines: set[int] = set()
    for statement in body:
        for node in ast.walk(statement):
            if hasattr(node, "lineno"):
                lines.update((node.lineno, node.end_lineno))
    return len(lines)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_function_is_short(path):
    functions = [n for n in ast.walk(tree_of(path)) if isinstance(n, ast.FunctionDef)]
    long = {f"{f.name} ({lines_of_code(f)})" for f in functions if lines_of_code(f) > LONGEST_FUNCTION}
    assert not long


def test_the_whole_is_small_enough_to_read():
    assert sum(len(path.read_text().splitlines()) for path in FILES) < 25_000


def public_names() -> list[str]:
    return (ROOT / "tests" / "oracle" / "api" / "keras-3.15.1.txt").read_text().split()


def is_there(name: str) -> bool:
    """Whether a dotted name of Keras is public here too."""
    found = importlib.import_module("lamina")
    for part in name.split(".")[1:]:
        try:
            found = getattr(found, part)
        except AttributeError:
            return False
    return True


def test_every_public_name_of_keras_is_there_or_on_the_list():
    missing = {name for name in public_names() if not is_there(name)}
    assert sorted(missing - set(NOT_THERE_YET)) == []


def test_the_list_holds_only_what_is_not_there():
    assert sorted(NOT_THERE_YET) == NOT_THERE_YET
    assert [name for name in NOT_THERE_YET if name not in public_names() or is_there(name)] == []


def test_importing_loads_no_other_framework():
    heavy = "{'tensorflow', 'torch', 'keras', 'pandas', 'matplotlib', 'optax'}"
    code = f"import sys, lamina; print(sorted({heavy} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_no_file_names_a_place_on_one_machine():
    texts = [p for folder in ("src", "tests", "benchmarks", "examples", "docs") for p in (ROOT / folder).rglob("*")]
    texts = [p for p in texts if p.suffix in {".py", ".md", ".toml", ".txt"}] + [ROOT / "README.md", ROOT / "Makefile"]
    pattern = re.compile(r"(?<![\w.])/(home|root|work|Users)/\w")
    assert [str(p.relative_to(ROOT)) for p in texts if pattern.search(p.read_text())] == []


def test_the_version_is_one():
    declared = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert declared is not None
    assert importlib.import_module("lamina").__version__ == declared[1]
