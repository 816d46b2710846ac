"""The lakehouse under test."""

from pathlib import Path

import pytest

from ml_assets.resources.lakehouse import Lakehouse


@pytest.fixture(params=["sqlite", "postgres"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lakehouse:
    """An empty lakehouse: every test runs on both catalogs."""
    uri = (
        request.getfixturevalue("postgres_url")
        if request.param == "postgres"
        else f"sqlite:///{tmp_path}/deep/below/catalog.db"
    )
    return Lakehouse(catalog_uri=uri, warehouse=str(tmp_path / "warehouse"))
