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
    **dict.fromkeys(
        ["activations", "initializers", "regularizers", "constraints", "quantizers", "distribution", "data"], 2
    ),
    **dict.fromkeys(["layer", "losses", "optimizers", "saving", "callbacks"], 3),
    **dict.fromkeys(["layers", "metrics"], 4),
    **dict.fromkeys(["training"], 5),
    **dict.fromkeys(["models"], 6),
    **dict.fromkeys(["config", "backend", "tree", "dtype_policies", "mixed_precision", "utils", "distillation"], 7),
    **dict.fromkeys(["datasets", "preprocessing", "stand_in", "visualization", "wrappers"], 8),
    **dict.fromkeys(["__init__", "__main__"], 9),
}
SIDEWAYS = {
    ("ops", "random"),
    ("backend", "config"),
    ("utils", "backend"),
    ("mixed_precision", "config"),
    ("callbacks", "saving"),
}
NEVER = {("training", "layers"), ("training", "models")}
# Longer than a file should be, and why.
LONG_FILES = {"ops/nn.py": "a namespace that mirrors keras.ops.nn: one short function after the other"}
LONGEST_FILE, LONGEST_FUNCTION, LONGEST_WHOLE = 500, 40, 44_499
BY_NAME = {"getattr", "setattr", "hasattr", "delattr"}
# Names with an underscore that a file may read of others: (file or "*", name) -> why.
PRIVATE_BUT_READ = {
    ("*", "_fields"): "public in named tuples",
    ("*", "_replace"): "public in named tuples",
    ("*", "_asdict"): "public in named tuples",
    ("core/runtime.py", "_exit"): "public in os",
    ("core/runtime.py", "_register_atexit"): "what concurrent.futures uses; nothing public runs so early",
    ("core/runtime.py", "_run_exitfuncs"): "what Python itself calls at the end",
    ("data/foreign.py", "_input_dataset"): "tf.data says nowhere else what a dataset is made of",
    ("data/foreign.py", "_tensors"): "tf.data says nowhere else which arrays it has rows of",
    ("data/streams.py", "_exit"): "public in os",
    ("models/cloning.py", "_entry"): "to be named",
    ("models/functional.py", "_function"): "to be named",
    ("models/sequential.py", "_input_shape_arg"): "to be named",
    ("saving/weights.py", "_function"): "to be named",
    ("utils/splitting.py", "_batch_size"): "what Keras goes by too: tf.data says nowhere else that it has batches",
    ("saving/weights.py", "_not_parts"): "to be named",
}
# Imported when first used; scipy comes with JAX and is slow to load.
OPTIONAL = {"scipy", "optax", "matplotlib", "pandas", "tensorflow", "torch", "grain", "IPython"}


def name_of(path: Path) -> str:
    return str(path.relative_to(SOURCE))


def package_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def own_imports(path: Path) -> set[str]:
    """The modules of the library that a file imports, as `lamina.package.file`; imports for types count."""
    found: set[str] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "lamina":
            for alias in node.names:
                inner = SOURCE.joinpath(*node.module.split(".")[1:], alias.name)
                is_module = inner.with_suffix(".py").exists() or inner.is_dir()
                found.add(f"{node.module}.{alias.name}" if is_module else node.module)
        elif isinstance(node, ast.Import):
            found.update(a.name for a in node.names if a.name.split(".")[0] == "lamina")
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


def own_names(path: Path) -> set[str]:
    """The names that a file defines: functions, classes, variables, and attributes of `self` and `cls`."""
    names: set[str] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and of_its_own(node):
            names.add(node.attr)
    return names


def of_its_own(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")


def attributes_read(path: Path) -> set[tuple[str, int]]:
    """(name, line) of what a file reads of objects but `self` and `cls`, by a dot or by `getattr` and its like."""
    found: set[tuple[str, int]] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Attribute) and not of_its_own(node):
            found.add((node.attr, node.lineno))
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in BY_NAME:
            found.update((str(name.value), node.lineno) for name in node.args[1:2] if isinstance(name, ast.Constant))
    return found


def foreign_private_names(path: Path) -> set[str]:
    """The private names of others that a file reads, as `name (line)`."""
    private = {(name, line) for name, line in attributes_read(path) if re.match(r"_[^_]", name)}
    allowed = own_names(path) | {name for where, name in PRIVATE_BUT_READ if where in ("*", name_of(path))}
    return {f"{name} (line {line})" for name, line in private if name not in allowed}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_file_reads_private_attributes_of_another(path):
    assert foreign_private_names(path) == set()


def test_the_list_of_private_names_that_are_read_is_not_too_long():
    read = {(name_of(path), name) for path in FILES for name, _ in attributes_read(path)}
    assert {key for key in PRIVATE_BUT_READ if key[0] != "*"} <= read


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_file_imports_private_names_of_another(path):
    imports = [n for n in ast.walk(tree_of(path)) if isinstance(n, ast.ImportFrom)]
    assert [a.name for n in imports if (n.module or "").startswith("lamina") for a in n.names if a.name[0] == "_"] == []


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_is_short(path):
    """This serves the shape of the thought: what does not belong elsewhere stays, and goes on `LONG_FILES` with why."""
    assert len(path.read_text().splitlines()) <= LONGEST_FILE or name_of(path) in LONG_FILES


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
    assert sum(len(path.read_text().splitlines()) for path in FILES) < LONGEST_WHOLE


ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()


def reading_order() -> tuple[list[str], list[int]]:
    """The files of the reading order in docs/architecture.md, and the numbers of lines and of files that it states."""
    section = ARCHITECTURE.partition("## Reading order")[2].partition("\n## ")[0]
    stated = re.search(r"([\d,]+) lines in (\d+) files", section)
    assert stated is not None
    steps = section[section.index("\n1. ") :]
    return re.findall(r"`([\w/]+\.py)`", steps), [int(number.replace(",", "")) for number in stated.groups()]


def test_the_files_of_the_reading_order_exist_and_are_as_long_as_it_says():
    files, (stated, count) = reading_order()
    assert len(files) == len(set(files)) == count
    lines = sum(len((SOURCE / name).read_text().splitlines()) for name in files)
    assert abs(lines - stated) <= 0.02 * lines, f"the files have {lines:,} lines, the page says {stated:,}"


FIT = """
import sys
import threading

import numpy as np

import lamina as keras

model = keras.Sequential([keras.layers.Dense(4, activation="relu"), keras.layers.Dense(3, activation="softmax")])
model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
met = set()


def note(frame, event, argument):
    met.add(frame.f_code.co_filename)


threading.setprofile(note)
sys.setprofile(note)
model.fit(np.ones((10, 4), "float32"), np.arange(10) % 3, epochs=2, batch_size=4, verbose=0)
sys.setprofile(None)
print("\\n".join(sorted(met)))
"""


def test_the_reading_order_names_all_that_a_fit_passes_through():
    run = subprocess.run([sys.executable, "-c", FIT], capture_output=True, text=True, check=True)
    met = {name_of(Path(line)) for line in run.stdout.split() if Path(line).is_relative_to(SOURCE)}
    assert "training/step.py" in met
    assert met - set(reading_order()[0]) == set()


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name
)
def test_every_file_that_a_page_names_exists(page):
    named = set(re.findall(r"`([\w/]+\.py)`", page.read_text()))
    assert {name for name in named if not (SOURCE / name).exists() and not (ROOT / name).exists()} == set()


def test_the_table_of_levels_is_that_of_these_tests():
    rows = re.findall(r"^\| (\d) \| (.+) \|$", ARCHITECTURE, re.MULTILINE)
    packages = {int(level): set(re.findall(r"`(\w+)`", cell.partition("(")[0])) for level, cell in rows}
    assert packages == {n: {p for p, level in LEVELS.items() if level == n} for n in set(LEVELS.values())}


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
