"""A PostgreSQL server of the tests' own, from the binaries that Debian installs."""

import os
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg2
import pytest


class PostgresServer:
    """A running server on loopback that trusts everybody there."""

    def __init__(self, port: int) -> None:
        self.url = f"postgresql://postgres@127.0.0.1:{port}"

    def execute(self, statement: str) -> None:
        with closing(psycopg2.connect(f"{self.url}/postgres")) as connection:
            connection.autocommit = True
            connection.cursor().execute(statement)


def free_port() -> int:
    """A port on loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The server that most tests share, each with databases of its own."""
    yield from _server()


@pytest.fixture(scope="module")
def own_postgres_server() -> Iterator[PostgresServer]:
    """A server that no other module uses."""
    yield from _server()


def _server() -> Iterator[PostgresServer]:
    try:
        with running_postgres() as server:
            yield server
    except FileNotFoundError as missing:
        pytest.fail(str(missing)) if os.environ.get("CI") else pytest.skip(str(missing))


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """A server with no databases but its own, stopped and removed afterwards."""
    pg_ctl = max(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), default=None)
    if pg_ctl is None:
        raise FileNotFoundError("PostgreSQL's server is not installed: apt-get install postgresql")
    port = free_port()
    # Not below pytest's own directory, which another user may not enter.
    home = tempfile.mkdtemp(prefix="ml-assets-postgres-")
    # PostgreSQL refuses to run as root.
    user = "postgres" if os.geteuid() == 0 else None
    if user:
        shutil.chown(home, user)

    def control(*command: str) -> None:
        subprocess.run(
            [pg_ctl, "-D", f"{home}/data", *command],
            check=True,
            cwd=home,
            user=user,
            stdout=subprocess.DEVNULL,
        )

    try:
        control("init", "-o", "-U postgres -E UTF8 --no-locale --auth=trust --no-sync")
        control("start", "-l", f"{home}/log", "-o", f"-h 127.0.0.1 -p {port} -k '' -F")
        yield PostgresServer(port)
        control("stop", "-m", "immediate")
    finally:
        shutil.rmtree(home)


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> str:
    """The URL of a new, empty database."""
    name = f"test_{uuid.uuid4().hex}"
    postgres_server.execute(f"CREATE DATABASE {name}")
    return f"{postgres_server.url}/{name}"
