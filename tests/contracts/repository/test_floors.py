"""The floors of each package, import circles, and the width of folders, from the imports alone."""

import ast
from collections import Counter
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

# A package may import those before it; within one, a floor may import those below it. Names of one
# floor are independent of each other.
PACKAGES = ("feature_store", "pipelines", "recsys", "serving")
FLOORS = {
    "feature_store": (
        "core",
        "calendar settings kinds",
        "schema",
        "history forgotten",
        "encoding",
        "offline",
        "online",
        "feast",
    ),
    "pipelines": (
        "urls process http",
        "settings",
        "executor logs datasets prepared reports",
        "statistics",
        "quality",
        "profile",
        "prepare",
        "materialize",
    ),
    "recsys": (
        "arguments config console disk_faults products unit_rows",
        "nearest store_faults",
        "losses evaluation autoconfig channels sqlite_store moved_store",
        "fusion tracked",
        "mlflow_run",
        "tracking",
        "ssl",
        "data",
        "model",
        "distributed",
        "checkpoint",
        "training",
        "comparison",
        "reports",
        "dashboard",
        "stages",
        "tuning",
        "studies",
    ),
    "serving": (
        "index",
        "bundle",
        "registry",
        "recommend",
        "batch experiment",
        "server",
        "exporting",
        "job nightly",
        "forgetting",
        "commands",
        "operations",
    ),
}
# The command line imports from everywhere, inside its commands; the public names are lazy.
EXEMPT = {
    ROOT / "recsys" / "cli.py",
    *(ROOT / "recsys" / "commands").glob("*.py"),
    *(ROOT / name / "__init__.py" for name in PACKAGES),
}
MAX_FILES = 20


def sources() -> list[Path]:
    return [path for name in PACKAGES for path in sorted((ROOT / name).rglob("*.py"))]


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in sources()}


def imported(path: Path) -> Iterator[str]:
    """Yields the project's modules that a file imports, at its top or inside of functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                if name in MODULES:
                    yield name
                elif node.module in MODULES:
                    yield node.module


IMPORTS = {module_of(p): set(imported(p)) - {module_of(p)} for p in sources() if p not in EXEMPT}


def floor_of(module: str) -> int:
    """Returns the number of the floor of a module that is no package's own `__init__`."""
    package, name, *_ = module.split(".")
    floors = [index for index, names in enumerate(FLOORS[package]) if name in names.split()]
    assert floors, f"{module} is on no floor: add it to FLOORS in {__file__}"
    return floors[0]


def against_floors(module: str) -> Iterator[str]:
    """Yields what a module imports although it is not below it."""
    package, *rest = module.split(".")
    for other in sorted(IMPORTS[module]):
        other_package, *other_rest = other.split(".")
        rank, other_rank = PACKAGES.index(package), PACKAGES.index(other_package)
        if other_rank > rank:
            yield f"{module} imports {other} of a later package"
        is_within = other_rank == rank and rest and other_rest and rest[0] != other_rest[0]
        if is_within and floor_of(other) >= floor_of(module):
            yield f"{module} imports {other}, which is on no floor below it"


def test_imports_go_down() -> None:
    found = [fault for module in IMPORTS for fault in against_floors(module)]
    assert not found, "\n".join(found)


def test_there_is_no_circle() -> None:
    try:
        TopologicalSorter(IMPORTS).prepare()
    except CycleError as error:
        pytest.fail(f"import circle: {' <- '.join(error.args[1])}")


def test_folders_are_narrow() -> None:
    tests = (ROOT / "tests").rglob("*.py")
    counts = Counter(p.parent for p in [*sources(), *tests] if p.name != "__init__.py")
    wide = [f"{folder} holds {n} files" for folder, n in counts.items() if n > MAX_FILES]
    assert not wide, f"expected at most {MAX_FILES} files in a folder: {'; '.join(wide)}"


@pytest.mark.parametrize("package", ["recsys", "serving"])
def test_a_public_name_is_no_module(package: str) -> None:
    """Checks that no submodule shadows a public name once it is imported."""
    import importlib

    for name in importlib.import_module(package).__all__:
        assert f"{package}.{name}" not in MODULES


@pytest.mark.parametrize("package", ["recsys", "serving"])
def test_a_public_name_is_where_it_is_said_to_be(package: str) -> None:
    """Checks the home of each lazy name: a wrong one would fail only when the name is used."""
    import importlib

    for name, home in importlib.import_module(package)._HOME.items():
        tree = ast.parse(MODULES[home].read_text(encoding="utf-8"))
        defined = {
            node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)
        }
        assert name in defined, f"{package}.{name} is not defined in {home}"
