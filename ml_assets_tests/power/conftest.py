"""The bundled half year of readings: its lines, cleaned, and hourly rows of it."""

from datetime import date

import pyarrow as pa
import pytest

from ml_assets.power import data, features
from ml_assets.resources.readings import SampleReadings
from ml_assets_tests.power.days import PARIS, arrived, begins

FIRST, END = date(2008, 1, 7), date(2008, 7, 7)


@pytest.fixture(scope="session")
def lines(tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    """All lines of the sample: `day`, `line` and `text`."""
    return SampleReadings(
        archive_name=data.SAMPLE_NAME,
        file_name=data.FILE_NAME,
        header=data.HEADER,
        sha256=data.SAMPLE_SHA256,
        cache_directory=str(tmp_path_factory.mktemp("sample")),
    ).read(FIRST, END)


@pytest.fixture(scope="session")
def readings(lines: pa.Table) -> pa.Table:
    """The sample, cleaned; the clock of its meter taken for UTC."""
    window = (begins(FIRST, "UTC"), begins(END, "UTC"))
    return data.clean(arrived(lines, *window, "UTC"), *window, "UTC", 0.05).readings


@pytest.fixture(scope="session")
def rows(readings: pa.Table) -> pa.Table:
    """The hourly rows of the sample in UTC."""
    return features.compute(readings, begins(FIRST, "UTC"), begins(END, "UTC"), "UTC", "FR")


@pytest.fixture(params=["UTC", PARIS])
def timezone(request: pytest.FixtureRequest) -> str:
    return request.param
