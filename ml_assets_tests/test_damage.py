"""Damaged files are read or refused, by every reader of foreign bytes; `fuzz.py` tries for longer.

What is read need not be right: a text without a digest may have another number in it. Outputs,
models, downloads and samples have digests.
"""

import logging
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.ml.errors import DataError
from ml_assets.ml.untrusted import parsing
from ml_assets_tests import fuzz
from ml_assets_tests.damage import KINDS, SCALE, Edit, readers

NAMES = (
    *("outputs", "outputs, inside", "outputs, vouched for", "images (npz)"),
    *("images (npz), inside", "images (tar.gz)", "images (tar.gz), inside", "ticks (csv)"),
    *("ticks (csv.gz)", "ticks (parquet)", "ticks (zip)", "ticks (zip), inside"),
    *("ticks (index)", "readings (txt)", "readings (csv)", "readings (csv.gz)"),
    *("readings (parquet)", "readings (zip)", "readings (zip), inside"),
)
EDITS = st.builds(
    Edit,
    st.sampled_from(KINDS),
    st.integers(0, SCALE - 1),
    st.sampled_from((1, 2, 4, 8, 16, 64, 512, 4096)),
    st.integers(0, SCALE - 1),
)


def test_every_reader_is_tried() -> None:
    assert set(NAMES) == set(readers())


@pytest.mark.parametrize("name", NAMES)
def test_a_sound_file_is_read(name: str, tmp_path: Path) -> None:
    reader = readers()[name]
    for number, (file, content) in enumerate(reader.seeds.items()):
        if name != "ticks (index)":
            (tmp_path / str(number)).mkdir()
            reader.read(tmp_path / str(number), file, content)


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_file_is_read_or_refused(name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    reader = readers()[name]

    @settings(max_examples=20, deadline=None, derandomize=True, database=None)
    @given(st.sampled_from(sorted(reader.seeds)), st.lists(EDITS, min_size=1, max_size=3))
    def check(file: str, edits: list[Edit]) -> None:
        content = reader.damage(reader.seeds[file], edits)
        with tempfile.TemporaryDirectory() as directory, suppress(DataError):
            reader.read(Path(directory), file, content)

    check()


def test_the_fuzzer_counts_what_becomes_of_files(tmp_path: Path) -> None:
    reader = readers()["outputs"]
    counts = Counter(fuzz.outcome(reader, Random(number), tmp_path) for number in range(20))
    assert counts.total() == 20
    assert set(counts) <= {"read", "DataError"}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error", [KeyError("x"), RecursionError(), UnicodeDecodeError("utf8", b"", 0, 1, "x")]
)
def test_what_a_parser_raises_is_told_with_what_was_expected(error: Exception) -> None:
    with (
        pytest.raises(DataError, match=rf"a sound file; found {type(error).__name__}: .*mend it"),
        parsing("a sound file", "mend it"),
    ):
        raise error


@pytest.mark.parametrize("error", [MemoryError(), KeyboardInterrupt(), OSError(5, "I/O error")])
def test_what_is_no_fault_of_the_bytes_passes(error: BaseException) -> None:
    with pytest.raises(type(error)), parsing("a sound file", "mend it"):
        raise error
