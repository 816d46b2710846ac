import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from upath import UPath

from ml_assets.ml import archive
from ml_assets.ml.errors import DataError


@dataclass(frozen=True)
class Record:
    numbers: np.ndarray
    note: dict[str, Any]


@dataclass(frozen=True)
class Other:
    numbers: np.ndarray


def fewer_fields() -> type:
    """An older `Record`, before it got its `note`."""

    @dataclass(frozen=True)
    class Record:
        numbers: np.ndarray

    return Record


@dataclass(frozen=True)
class WithModel:
    model: Any
    name: str


RECORD = Record(np.arange(6, dtype=np.uint8).reshape(2, 3), {"rate": 0.1, "tags": ["a", None]})


@pytest.fixture(params=["directory", "object store"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> UPath:
    if request.param == "directory":
        return UPath(tmp_path / "deep" / "record.zip")
    return UPath(f"memory://{tmp_path.name}/record.zip")


def test_what_is_saved_is_loaded(path: UPath) -> None:
    archive.save(RECORD, path)
    found = archive.load(Record, path)
    np.testing.assert_array_equal(found.numbers, RECORD.numbers)
    assert found.numbers.dtype == np.uint8
    assert found.note == RECORD.note


def test_saving_again_replaces(path: UPath) -> None:
    archive.save(RECORD, path)
    archive.save(Record(np.zeros(1), {}), path)
    assert archive.load(Record, path).note == {}


def test_a_keras_model_predicts_the_same_after_saving(path: UPath) -> None:
    import keras

    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(2)])
    rows = np.ones((4, 3), np.float32)
    archive.save(WithModel(model, "dense"), path)
    found = archive.load(WithModel, path)
    np.testing.assert_array_equal(found.model.predict(rows), model.predict(rows))


def test_nothing_saved_is_file_not_found(path: UPath) -> None:
    with pytest.raises(FileNotFoundError):
        archive.load(Record, path)


def test_another_type_is_refused(path: UPath) -> None:
    archive.save(RECORD, path)
    with pytest.raises(DataError, match=r"expected a Other .* found a Record"):
        archive.load(Other, path)


def test_a_file_of_other_code_is_refused(path: UPath) -> None:
    archive.save(fewer_fields()(np.zeros(1)), path)
    with pytest.raises(DataError, match=r"Record of note, numbers .* found a Record of numbers"):
        archive.load(Record, path)


def test_a_model_that_keras_cannot_load_is_refused() -> None:
    with pytest.raises(DataError, match=r"a model that Keras .* can load"):
        archive.model_from_bytes(b"no model")


def test_a_model_whose_optimizer_would_begin_anew_is_refused() -> None:
    """Keras saves of a layer as a whole whether it is trained, and only warns of what follows."""
    import keras

    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(2)])
    model.layers[0].kernel.trainable = False
    model.compile("adam", "mse")
    model.fit(np.ones((4, 3), np.float32), np.ones((4, 2), np.float32), verbose=0)
    with pytest.raises(DataError, match="Skipping variable loading for optimizer"):
        archive.model_from_bytes(archive.model_to_bytes(model))


def test_a_layer_that_holds_code_is_refused(tmp_path: Path) -> None:
    import keras

    proof = str(tmp_path / "code_has_run")
    hostile = keras.Sequential(
        [keras.layers.Input((1,)), keras.layers.Lambda(lambda x: (open(proof, "w"), x)[1])]  # noqa: PTH123, SIM115
    )
    data = archive.model_to_bytes(hostile)
    Path(proof).unlink()  # building the layer ran it here
    with pytest.raises(DataError, match=r"a model that Keras .* can load"):
        archive.model_from_bytes(data)
    assert not Path(proof).exists()


@pytest.mark.parametrize("kept", [0, 10, -1, 0.5])
def test_a_truncated_file_is_refused(path: UPath, kept: float) -> None:
    archive.save(RECORD, path)
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data)) if 0 < kept < 1 else int(kept)])
    with pytest.raises(DataError, match="materialize its asset again"):
        archive.load(Record, path)


def test_a_changed_member_is_refused(tmp_path: Path) -> None:
    path = UPath(tmp_path / "record.zip")
    archive.save(RECORD, path)
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    members["numbers.npy"] = members["numbers.npy"][:-1] + b"\x09"
    with zipfile.ZipFile(path, "w") as new:
        for name, data in members.items():
            new.writestr(name, data)
    with pytest.raises(DataError, match="changed or damaged"):
        archive.load(Record, path)


def test_members_that_the_record_does_not_name_are_never_read(tmp_path: Path) -> None:
    path = UPath(tmp_path / "record.zip")
    archive.save(RECORD, path)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("../../escaped.npy", b"")
    archive.load(Record, path)
    assert not (tmp_path.parent / "escaped.npy").exists()


def test_members_that_unpack_to_more_than_the_file_are_refused(tmp_path: Path) -> None:
    path = UPath(tmp_path / "bomb.zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("record.json", bytes(10_000_000))
    with pytest.raises(DataError, match="unpack to more than the file holds"):
        archive.load(Record, path)


def test_a_pickled_array_is_refused(tmp_path: Path) -> None:
    path = UPath(tmp_path / "record.zip")
    with pytest.raises(ValueError, match="allow_pickle"):
        archive.save(Record(np.array([object()]), {}), path)
    assert not path.exists()


def test_a_value_that_is_no_json_is_refused_and_leaves_the_old_file(tmp_path: Path) -> None:
    path = UPath(tmp_path / "record.zip")
    archive.save(RECORD, path)
    with pytest.raises(TypeError):
        archive.save(Record(np.zeros(1), {"when": object()}), path)
    assert archive.load(Record, path).note == RECORD.note


def test_a_failing_write_leaves_the_old_file_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = UPath(tmp_path / "record.zip")
    archive.save(RECORD, path)

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        archive.save(Record(np.zeros(1), {}), path)
    monkeypatch.undo()
    assert archive.load(Record, path).note == RECORD.note
    assert list(tmp_path.iterdir()) == [path]


def test_the_header_is_readable_by_people(tmp_path: Path) -> None:
    path = UPath(tmp_path / "record.zip")
    archive.save(RECORD, path)
    with zipfile.ZipFile(path) as file:
        assert json.loads(file.read("record.json"))["values"] == {"note": RECORD.note}
