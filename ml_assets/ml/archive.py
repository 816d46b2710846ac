"""One step's output as one file: a dataclass of arrays, models and plain values.

The file is an uncompressed zip: `record.json` holds the plain values, each array is a `.npy`
member, each Keras model a `.keras` member, each LightGBM booster a `.txt` member. Nothing is
pickled, and every member's SHA-256 is compared before the member is read. What an output
*means* is the dataclass's business.
"""

import dataclasses
import hashlib
import io
import json
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote
from uuid import uuid4

import numpy as np
from upath import UPath

from ml_assets.ml.errors import DataError
from ml_assets.ml.untrusted import open_regular, parsing, read_array

T = TypeVar("T")
_RECORD = "record.json"
_REMEDY = (
    "materialize its asset again; if it is a champion, make another version champion, by the "
    "group's job promote or rollback"
)


def save(record: Any, path: UPath) -> None:
    """Write the dataclass instance `record` to `path`, replacing what was there atomically.

    Raises:
        TypeError: A field is neither an array, nor a model, nor JSON.
    """
    write_atomically(path, to_bytes(record))


def to_bytes(record: Any) -> bytes:
    """The file that `save` writes."""
    members: dict[str, bytes] = {}
    values: dict[str, Any] = {}
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if isinstance(value, np.ndarray):
            members[f"{field.name}.npy"] = _array_to_bytes(value)
        elif hasattr(value, "save") and hasattr(value, "get_config"):
            members[f"{field.name}.keras"] = model_to_bytes(value)
        elif hasattr(value, "model_to_string"):
            members[f"{field.name}.txt"] = value.model_to_string(num_iteration=-1).encode()
        else:
            values[field.name] = value
    header = {
        "type": type(record).__name__,
        "values": values,
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in members.items()},
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(_RECORD, json.dumps(header))
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def load(cls: type[T], path: Path | UPath) -> T:
    """Read the `cls` that `save` wrote to `path`.

    Raises:
        FileNotFoundError: Nothing was saved there.
        DataError: It is no file, is truncated or changed, or holds another type or other fields.
    """
    return from_bytes(cls, _content(UPath(path)), str(path))


def from_bytes(cls: type[T], data: bytes, path: str) -> T:
    """Read the `cls` in the bytes that `to_bytes` made; `path` is what errors call them."""
    header, members = _unzipped(data, f"a saved {cls.__name__} at {path}")
    fields = dict(header["values"])
    found = {*fields, *(name.rsplit(".", 1)[0] for name in members)}
    expected = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    if header["type"] != cls.__name__ or found != expected:
        raise DataError(
            f"a {cls.__name__} of {', '.join(sorted(expected))} at {path}",
            f"a {header['type']} of {', '.join(sorted(found))}",
            _REMEDY,
        )
    for name, member in members.items():
        check_sha256(member, header["sha256"][name], f"{path}/{name}", _REMEDY)
        stem, suffix = name.rsplit(".", 1)
        with parsing(f"{path}/{name} as this version of the project writes it", _REMEDY):
            fields[stem] = _READERS[suffix](member)
    return cls(**fields)


def _content(path: UPath) -> bytes:
    if path.protocol not in ("", "file"):
        return path.read_bytes()
    try:
        with open_regular(Path(path.path), _REMEDY) as file:
            return file.read()
    except DataError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise error.__cause__ from None
        raise


def _unzipped(data: bytes, expected: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The record and the other members that it names; none of them is packed."""
    with parsing(expected, _REMEDY), zipfile.ZipFile(io.BytesIO(data)) as archive:
        every = archive.infolist()
        if sum(member.file_size for member in every) > len(data):
            raise zipfile.BadZipFile("members that unpack to more than the file holds")
        # By other methods, a few bytes may become gigabytes at a time.
        if any(member.compress_type != zipfile.ZIP_STORED for member in every):
            raise zipfile.BadZipFile("packed members")
        header = json.loads(archive.read(_RECORD))
        kinds = (header["type"], str), (header["values"], dict), (header["sha256"], dict)
        if not all(isinstance(value, kind) for value, kind in kinds):
            raise TypeError(f"{_RECORD} of another form")
        for name, digest in header["sha256"].items():
            if name.rpartition(".")[2] not in _READERS or not isinstance(digest, str):
                raise ValueError(f"a member {name} of an unknown kind")
        return header, {name: archive.read(name) for name in header["sha256"]}


def file_name(key: str) -> str:
    """`key` as a file name that cannot lead out of its directory.

    >>> file_name("2026-01-31"), file_name("../up")
    ('2026-01-31', '%2E%2E%2Fup')
    """
    return quote(key, safe="").replace("..", "%2E%2E")


def checkpoint_of(path: UPath) -> UPath:
    """Where the training whose output will be kept at `path` keeps its checkpoint."""
    return path.with_suffix(".checkpoint")


def check_sha256(data: bytes, expected: str, name: str, remedy: str) -> None:
    """Raise `DataError` unless the SHA-256 of `data` is `expected`."""
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise DataError(f"SHA-256 {expected} of {name}", f"{found}: changed or damaged", remedy)


def write_atomically(path: UPath, data: bytes) -> None:
    """Replace the file at `path` by `data`: readers see the old bytes or the new, never a part.

    On a local file system the bytes go to a sibling that is then renamed; an object store
    makes an object visible only when its upload is complete.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.protocol not in ("", "file"):
        path.write_bytes(data)
        return
    sibling = Path(path.path).with_name(f".{path.name}.{uuid4().hex}")
    try:
        sibling.write_bytes(data)
        sibling.replace(path.path)
    finally:
        sibling.unlink(missing_ok=True)


def model_to_bytes(model: Any) -> bytes:
    """A Keras model, with its optimizer's state, in the `.keras` format."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "model.keras"
        model.save(file)
        return file.read_bytes()


def model_from_bytes(data: bytes) -> Any:
    """The Keras model in `data`. Check the digest first: safe mode alone is no boundary.

    Raises:
        DataError: This version of Keras cannot load it.
    """
    import keras

    from ml_assets.ml import muon, networks

    known = networks.CUSTOM_OBJECTS | {"FilterMuon": muon.FilterMuon}
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "model.keras"
        file.write_bytes(data)
        with (
            parsing(f"a model that Keras {keras.__version__} can load", _REMEDY),
            warnings.catch_warnings(),
        ):
            # An optimizer whose state does not fit would begin anew.
            warnings.filterwarnings("error", "Skipping variable loading", UserWarning)
            return keras.saving.load_model(file, custom_objects=known, safe_mode=True)


def _array_to_bytes(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _array_from_bytes(data: bytes) -> np.ndarray:
    return read_array(io.BytesIO(data), len(data))


def _booster_from_bytes(data: bytes) -> Any:
    import lightgbm as lgb

    return lgb.Booster(model_str=data.decode())


_READERS: dict[str, Callable[[bytes], Any]] = {
    "keras": model_from_bytes,
    "npy": _array_from_bytes,
    "txt": _booster_from_bytes,
}
