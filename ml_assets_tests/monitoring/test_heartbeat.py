"""The heartbeat: what is called, how often, and that it disturbs nobody."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ml_assets.monitoring import definitions
from ml_assets.monitoring.ledger_store import LedgerStore
from ml_assets_tests.monitoring.test_alerts import Desk, State, run


class Receiver(ThreadingHTTPServer):
    """Takes heartbeats, as healthchecks.io does at `/UUID` and `/UUID/fail`."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.status = 200
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.calls.append((self.path, json.loads(body)))
                self.send_response(receiver.status)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/s3cret-uuid"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as found:
        yield found
        found.shutdown()


def a_minute_later(desk: Desk) -> None:
    cursor = json.loads(desk.cursor or "")
    cursor["heartbeat"]["time"] -= 60
    desk.cursor = json.dumps(cursor)


def test_the_url_of_the_environment_is_called_once_a_minute(
    desk: Desk, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.tick()
    assert receiver.calls == []
    monkeypatch.setenv("ML_ASSETS_HEARTBEAT_URL", receiver.url)
    desk.tick()
    desk.tick()
    [(path, body)] = receiver.calls
    assert path == "/s3cret-uuid"
    # As Alertmanager posts it: https://prometheus.io/docs/alerting/latest/configuration/
    assert (body["version"], body["status"]) == ("4", "firing")
    assert body["alerts"][0]["labels"]["alertname"] == "Watchdog"
    a_minute_later(desk)
    desk.tick()
    assert len(receiver.calls) == 2


def test_while_alerts_cannot_be_delivered_the_failure_url_is_called(
    instance: dg.DagsterInstance,
    desk: Desk,
    receiver: Receiver,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BEAT", receiver.url)
    monkeypatch.setenv("BEAT_FAIL", f"{receiver.url}/fail")
    hook = {"type": "webhook", "url": "http://127.0.0.1:9", "secret": {"env": "NOT_SET"}}
    configuration = {
        "notifiers": {"hook": hook},
        "routes": [{"notify": ["hook"]}],
        "heartbeat": {"url": {"env": "BEAT"}, "failure_url": {"env": "BEAT_FAIL"}},
    }
    (tmp_path / "alerts.yaml").write_text(json.dumps(configuration))
    desk.tick()
    State.missing_days = 1
    run(instance)
    a_minute_later(desk)
    desk.tick()
    assert [path for path, _ in receiver.calls] == ["/s3cret-uuid", "/s3cret-uuid/fail"]


def test_a_failing_heartbeat_is_told_without_its_url_and_disturbs_no_alert(
    instance: dg.DagsterInstance,
    desk: Desk,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    receiver.status = 404
    monkeypatch.setenv("ML_ASSETS_HEARTBEAT_URL", receiver.url)
    State.missing_days = 1
    run(instance)
    assert [alert.check for alert in desk.tick()] == ["no_missing_days"]
    [told] = desk.tick()
    assert (told.title, told.group) == ("the heartbeat is not received", "monitoring")
    assert told.details == {"error": "the heartbeat's receiver answered 404"}
    a_minute_later(desk)
    assert desk.tick() == []
    receiver.status = 200
    a_minute_later(desk)
    desk.tick()
    assert [alert.recovered for alert in desk.tick()] == [True]
    kept = LedgerStore().path.read_text() + desk.log.read_text() + (desk.cursor or "")
    assert "s3cret" not in kept + "".join(capfd.readouterr())


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/s3cret", "no url", "http://[s3cret", ""])
def test_a_url_that_leads_nowhere_is_told(
    url: str, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BEAT", url)
    file = tmp_path / "alerts.yaml"
    configuration = json.loads(file.read_text()) | {"heartbeat": {"url": {"env": "BEAT"}}}
    file.write_text(json.dumps(configuration))
    assert desk.tick() == []
    [told] = desk.tick()
    assert told.title == "the heartbeat is not received"
    assert "s3cret" not in str(told)


def test_a_receiver_that_never_ends_its_answer_holds_nobody_up(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(definitions, "TIMEOUT_SECONDS", 0.5)
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            connection, _ = server.accept()
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while not over.wait(0.1):
                connection.sendall(b"x")
            connection.close()

        thread = threading.Thread(target=drip)
        thread.start()
        port = server.getsockname()[1]
        monkeypatch.setenv("ML_ASSETS_HEARTBEAT_URL", f"http://127.0.0.1:{port}/")
        began = time.monotonic()
        desk.tick()
        assert time.monotonic() - began < 5
        assert "no answer within" in json.loads(desk.cursor or "")["heartbeat"]["error"]
        a_minute_later(desk)
        assert [alert.title for alert in desk.tick()] == ["the heartbeat is not received"]
        over.set()
        thread.join()
