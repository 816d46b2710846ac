"""What the guides name is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GUIDES = sorted([*ROOT.glob("README*.md"), *(ROOT / "docs").glob("*.md")])


def test_every_test_against_a_threat_exists() -> None:
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", (ROOT / "docs" / "security.md").read_text())
    assert len(named) > 20
    for file, name in named:
        assert f"def {name}(" in (ROOT / "ml_assets_tests" / file).read_text(), (file, name)


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_every_link_within_the_project_leads_somewhere(guide: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", guide.read_text()):
        if "://" not in target:
            assert (guide.parent / target).exists(), target


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_every_module_in_a_command_exists(guide: Path) -> None:
    for module in re.findall(r"python -m ((?:ml_assets|benchmarks)[\w.]*)", guide.read_text()):
        path = ROOT.joinpath(*module.split("."))
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module


def test_the_korean_readme_has_the_same_commands() -> None:
    english, korean = (
        re.findall(r"```.*?```", (ROOT / name).read_text(), re.DOTALL)
        for name in ("README.md", "README.ko.md")
    )
    assert korean == english
    headings = [
        len(
            re.findall(
                r"^#+ ", re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL), re.MULTILINE
            )
        )
        for path in (ROOT / "README.md", ROOT / "README.ko.md")
    ]
    assert headings[0] == headings[1]
    variables = [
        re.findall(r"^\| (`[A-Z].*?) \|", path.read_text(), re.MULTILINE)
        for path in (ROOT / "README.md", ROOT / "README.ko.md")
    ]
    assert variables[0] == variables[1]
