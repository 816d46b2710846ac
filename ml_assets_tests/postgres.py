"""A PostgreSQL server of the tests' own, from the binaries that Debian installs."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg2
import pytest

STARTUP_SECONDS = 30


def binary(name: str) -> str | None:
    """The newest `name` that Debian installed, else the one on the path."""
    found = sorted(
        Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3])
    )
    return str(found[-1]) if found else shutil.which(name)


def unprivileged() -> dict[str, int]:
    """User and group to run as, instead of root."""
    names = {entry.pw_name for entry in pwd.getpwall()}
    entry = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    return {"user": entry.pw_uid, "group": entry.pw_gid}


class PostgresServer:
    """A running server on loopback that trusts everybody there."""

    def __init__(self, port: int) -> None:
        self.url = f"postgresql://postgres@127.0.0.1:{port}"

    def new_database(self) -> str:
        """The URL of a new, empty database."""
        name = f"test_{uuid.uuid4().hex}"
        self.execute(f"CREATE DATABASE {name}")
        return f"{self.url}/{name}"

    def execute(self, statement: str) -> None:
        connection = psycopg2.connect(f"{self.url}/postgres")
        try:
            connection.autocommit = True
            connection.cursor().execute(statement)
        finally:
            connection.close()

    def answers(self) -> bool:
        try:
            self.execute("SELECT 1")
        except psycopg2.OperationalError:
            return False
        return True


@contextmanager
def running_server(initdb: str, postgres: str) -> Iterator[PostgresServer]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    # Not below pytest's own directory, which another user may not enter.
    home = Path(tempfile.mkdtemp(prefix="ml-assets-postgres-"))
    # PostgreSQL refuses to run as root.
    user = unprivileged() if os.geteuid() == 0 else {}
    if user:
        shutil.chown(home, **user)
    data, environment = home / "data", {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
    try:
        subprocess.run(
            [initdb, "-D", data, "-U", "postgres", "-E", "UTF8", "--auth=trust", "--no-sync"],
            check=True,
            capture_output=True,
            cwd=home,
            env=environment,
            **user,
        )
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": "",
            "fsync": "off",
        }
        with (home / "log").open("wb") as log:
            process = subprocess.Popen(
                [postgres, "-D", data, *(f"--{name}={value}" for name, value in settings.items())],
                stdout=log,
                stderr=log,
                cwd=home,
                env=environment,
                **user,
            )
        try:
            server = PostgresServer(port)
            deadline = time.monotonic() + STARTUP_SECONDS
            while not server.answers():
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"PostgreSQL did not start:\n{(home / 'log').read_text()}")
                time.sleep(0.05)
            yield server
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(STARTUP_SECONDS)
    finally:
        shutil.rmtree(home)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    initdb, postgres = binary("initdb"), binary("postgres")
    if not initdb or not postgres:
        missing = "PostgreSQL's server is not installed: apt-get install postgresql"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    with running_server(initdb, postgres) as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> str:
    """The URL of a new, empty database."""
    return postgres_server.new_database()
