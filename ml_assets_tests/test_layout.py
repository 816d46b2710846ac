"""The house rules that no single module can keep: what may import what, and how fast."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ml_assets.demo import JOBS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "ml_assets"
LOCATIONS = [
    entry["python_module"]["module_name"]
    for entry in yaml.safe_load((ROOT / "workspace.yaml").read_text())["load_from"]
]
HEAVY = ["tensorflow", "keras", "mlflow", "lightgbm", "pyiceberg", "sklearn", "matplotlib"]
GROUPS = sorted(path.parent.name for path in PACKAGE.glob("*/assets.py"))
SKELETON = {"__init__", "assets", "checks", "config", "data", "definitions", "features", "model"}
BESIDE = {"cifar10": {"networks", "transfer"}}
"""What a group has beside the skeleton: what `model` would be too long with."""

# What each part of the package may import of the package, itself aside.
LAYERS = {
    "ml": set(),
    "settings": set(),
    "dagster_internals": set(),
    "promotion": {"ml"},
    "reexecute": {"settings"},
    "io_managers": {"ml"},
    "resources": {"ml", "settings"},
    "ranges": {"dagster_internals", "ml", "reporting"},
    "checks": {"dagster_internals", "ml", "promotion", "ranges", "resources"},
    "reporting": {"ml", "promotion", "resources"},
    "image_checks": {"ml", "checks"},
    "image_reporting": {"ml", "reporting"},
    "retention": {"io_managers", "settings"},
    "build": {"ml", "io_managers", "promotion", "reporting", "resources", "settings"}
    | {"dagster_internals", "run_launcher"},
    "trials": {"ml", "promotion", "reporting", "resources", "settings"},
    "definitions": set(GROUPS),
    "demo": {"settings"},
    "backup": {"ml", "relocate", "settings"},
    "relocate": {"build", "ml", "resources", "settings"},
    "prepare": {"build", "ml", "relocate", "settings"},
    "event_log": set(),
    "run_processes": {"ml"},
    "run_launcher": {"dagster_internals", "run_processes"},
    "up": {"ml"},
    "monitoring": {"dagster_internals", "resources", "run_launcher", "settings"},
    "samples": set(),
    **{
        group: {
            "ml",
            "resources",
            "settings",
            "promotion",
            "checks",
            "reporting",
            "build",
            "ranges",
        }
        | {"image_checks", "image_reporting", "retention", "trials", "dagster_internals"}
        for group in GROUPS
    },
}


def _modules(path: Path) -> set[str]:
    """The modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def _imports(path: Path) -> set[str]:
    """The parts of the package that a file imports."""
    return {name.split(".")[1] for name in _modules(path) if name.startswith("ml_assets.")}


def _loaded_by(statement: str) -> str:
    """The heavy libraries that a statement loads into a fresh interpreter."""
    program = f"import sys; {statement}; print([name for name in {HEAVY} if name in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return result.stdout.strip()


@pytest.mark.parametrize("module", [*LOCATIONS, "ml_assets.definitions"])
def test_a_code_location_loads_without_heavy_imports(module: str) -> None:
    assert _loaded_by(f"import {module} as m; m.defs.resolve_all_asset_specs()") == "[]"


def test_every_resource_is_imported_without_heavy_imports() -> None:
    names = {path.stem for path in (PACKAGE / "resources").iterdir()} - {"__init__", "__pycache__"}
    modules = ", ".join(f"ml_assets.resources.{name}" for name in sorted(names))
    assert _loaded_by(f"import {modules}") == "[]"


@pytest.mark.parametrize("part", sorted(LAYERS))
def test_imports_go_downwards_only(part: str) -> None:
    single = PACKAGE / f"{part}.py"
    for path in [single] if single.exists() else sorted((PACKAGE / part).rglob("*.py")):
        assert _imports(path) <= LAYERS[part] | {part}, path


def test_every_part_of_the_package_has_its_layer() -> None:
    parts = {path.stem for path in PACKAGE.glob("*.py")} | {
        path.parent.name for path in PACKAGE.glob("*/__init__.py")
    }
    assert parts - {"__init__"} == set(LAYERS)


def test_the_pure_part_knows_neither_dagster_nor_mlflow() -> None:
    for path in [*(PACKAGE / "ml").glob("*.py"), PACKAGE / "promotion.py"]:
        assert not {name.split(".")[0] for name in _modules(path)} & {"dagster", "mlflow"}, path


@pytest.mark.parametrize("group", GROUPS)
def test_every_group_has_the_same_skeleton(group: str) -> None:
    assert {path.stem for path in (PACKAGE / group).glob("*.py")} == (
        SKELETON | BESIDE.get(group, set())
    )


def test_every_group_is_a_code_location_and_part_of_the_whole_and_of_the_demo() -> None:
    locations = sorted([*GROUPS, "monitoring"])
    assert [f"ml_assets.{location}.definitions" for location in locations] == LOCATIONS
    assert _imports(PACKAGE / "definitions.py") == set(GROUPS)
    assert set(JOBS) == set(GROUPS)


def test_nothing_is_pickled() -> None:
    for path in PACKAGE.rglob("*.py"):
        modules = {name.split(".")[0] for name in _modules(path)}
        assert not modules & {"pickle", "cloudpickle", "joblib", "dill"}, path
