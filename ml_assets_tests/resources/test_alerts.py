"""Each notifier against a real server on loopback."""

import hashlib
import hmac
import json
from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword
from pydantic import ValidationError
from slack_sdk import WebClient

from ml_assets.resources.alerts import LONGEST, Alert, Alerting, Route, subject, text
from ml_assets_tests.postgres import free_port
from ml_assets_tests.servers import LoopbackServer, QuietHandler

BROKEN = Alert(
    key="check power/readings:no_missing_days 2026-06-30",
    recovered=False,
    severity="ERROR",
    group="power",
    title="power/readings does not hold: no_missing_days",
    asset="power/readings",
    partition="2026-06-30",
    check="no_missing_days",
    details={"missing_days": "3", "allowed": "0"},
    link="http://127.0.0.1:3000/runs/r1",
    time="2026-07-01T00:31:00.000+00:00",
    count=2,
)
WARNING = Alert("k2", False, "WARN", "tick", "tick/model does not hold: is_no_worse")
STALE = Alert("k3", False, "ERROR", "tick", "tick/forecast is stale")


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ML_ASSETS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("THE_SECRET", "s3cret")


class Receiver(LoopbackServer):
    """Answers HTTP posts as told, and keeps them."""

    def __init__(self) -> None:
        self.status, self.answer = 200, b'{"ok": true}'
        self.received: list[tuple[str, dict[str, str], bytes]] = []
        owner = self

        class Handler(QuietHandler):
            def do_POST(self) -> None:  # noqa: N802 - the name that http.server calls
                body = self.rfile.read(int(self.headers["Content-Length"]))
                owner.received.append((self.path, dict(self.headers), body))
                self.send_response(owner.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(owner.answer)))
                self.end_headers()
                self.wfile.write(owner.answer)

        super().__init__(Handler)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    yield found
    found.server.shutdown()


def notifier(**configuration: Any) -> Any:
    return Alerting.model_validate(
        {"notifiers": {"one": configuration}, "routes": [{"notify": ["one"]}]}
    ).notifiers["one"]


def test_a_message_says_all_that_helps() -> None:
    assert text([BROKEN]) == (
        "ERROR power: power/readings does not hold: no_missing_days\n"
        "  asset: power/readings\n"
        "  partition: 2026-06-30\n"
        "  check: no_missing_days\n"
        "  missing_days: 3\n"
        "  allowed: 0\n"
        "  times: 2\n"
        "  at 2026-07-01T00:31:00.000+00:00\n"
        "  http://127.0.0.1:3000/runs/r1"
    )
    assert subject([BROKEN]) == "ERROR power: power/readings does not hold: no_missing_days"
    assert subject([BROKEN, WARNING]) == "2 alerts, 0 recoveries: power, tick"


def test_a_burst_is_cut_short() -> None:
    assert text([BROKEN] * (LONGEST + 5)).endswith("\n\nand 5 more")


def test_the_log_file_has_a_line_for_each_alert(tmp_path: Path) -> None:
    log = notifier(type="log")
    log.send([BROKEN])
    log.send([WARNING, BROKEN])
    lines = (tmp_path / "alerts.log").read_text().splitlines()
    assert [json.loads(line)["group"] for line in lines] == ["power", "tick", "power"]
    assert Alert(**json.loads(lines[0])) == BROKEN


def test_the_webhook_is_signed(receiver: Receiver) -> None:
    hook = notifier(type="webhook", url=f"{receiver.url}/hook", secret={"env": "THE_SECRET"})
    hook.send([BROKEN])
    hook.send([BROKEN])
    (path, headers, body), (_, again, _) = receiver.received
    assert path == "/hook"
    assert json.loads(body)["alerts"][0]["partition"] == "2026-06-30"
    expected = hmac.new(b"s3cret", headers["X-Timestamp"].encode() + b"." + body, hashlib.sha256)
    assert headers["X-Signature-256"] == f"sha256={expected.hexdigest()}"
    assert headers["X-Delivery"] == again["X-Delivery"]


@pytest.mark.parametrize("status", [302, 404, 500])
def test_a_webhook_that_refuses_is_an_error(status: int, receiver: Receiver) -> None:
    receiver.status = status
    hook = notifier(type="webhook", url=receiver.url, secret={"env": "THE_SECRET"})
    with pytest.raises(ConnectionError, match=str(status)):
        hook.send([BROKEN])


def test_an_address_that_is_a_secret_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_URL", "http://127.0.0.1:9/t0ken")
    hook = notifier(type="webhook", url={"env": "THE_URL"}, secret={"env": "THE_SECRET"})
    with pytest.raises(ConnectionError, match="no answer of the webhook") as caught:
        hook.send([BROKEN])
    assert "t0ken" not in str(caught.value)


def test_slack_is_written_to(receiver: Receiver) -> None:
    slack = notifier(
        type="slack", token={"env": "THE_SECRET"}, channel="#ml", api_url=f"{receiver.url}/api/"
    )
    slack.send([BROKEN])
    [(path, headers, body)] = receiver.received
    assert path == "/api/chat.postMessage"
    assert headers["Authorization"] == "Bearer s3cret"
    assert b"no_missing_days" in body

    receiver.answer = b'{"ok": false, "error": "channel_not_found"}'
    with pytest.raises(Exception, match="channel_not_found"):
        slack.send([BROKEN])


def test_slack_shows_text_and_no_markup_of_it(receiver: Receiver) -> None:
    slack = notifier(
        type="slack", token={"env": "THE_SECRET"}, channel="#ml", api_url=f"{receiver.url}/api/"
    )
    odd = Alert("k", False, "ERROR", "tick", "<!channel>", details={"said": "a & b ``` <@U1>"})
    slack.send([odd])
    [(_, _, body)] = receiver.received
    written = json.loads(body)["text"]
    assert "<" not in written
    assert "&lt;!channel&gt;" in written
    assert "a &amp; b ''' &lt;@U1&gt;" in written
    assert written.count("```") == 2


def test_slack_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts: list[str] = []

    def refuse(_: object, url: str, __: object) -> None:
        attempts.append(url)
        raise ConnectionResetError

    monkeypatch.setattr(WebClient, "_perform_urllib_http_request_internal", refuse)
    with pytest.raises(ConnectionResetError):
        notifier(type="slack", token={"env": "THE_SECRET"}, channel="#ml").send([BROKEN])
    assert len(attempts) == 1


class Mailbox:
    """What an SMTP server received."""

    def __init__(self) -> None:
        self.mails: list[Message] = []

    async def handle_DATA(self, _: Any, __: Any, envelope: Any) -> str:  # noqa: N802
        self.mails.append(message_from_bytes(envelope.content))
        return "250 OK"


@pytest.fixture
def smtp() -> Iterator[Controller]:
    def check(server: Any, session: Any, envelope: Any, mechanism: Any, data: Any) -> AuthResult:
        known = data == LoginPassword(b"ml", b"s3cret")
        return AuthResult(success=known)

    controller = Controller(
        Mailbox(),
        hostname="127.0.0.1",
        port=free_port(),
        authenticator=check,
        auth_require_tls=False,
    )
    controller.start()
    yield controller
    controller.stop()


def mail(smtp: Controller, **changes: Any) -> Any:
    configuration = {
        "type": "email",
        "host": "127.0.0.1",
        "port": smtp.port,
        "sender": "ml@example.org",
        "recipients": ["team@example.org", "night@example.org"],
        "starttls": False,
        "user": "ml",
        "password": {"env": "THE_SECRET"},
    }
    return notifier(**configuration | changes)


def test_a_mail_arrives(smtp: Controller) -> None:
    mail(smtp).send([BROKEN, WARNING])
    [message] = smtp.handler.mails
    assert message["Subject"] == "2 alerts, 0 recoveries: power, tick"
    assert message["To"] == "team@example.org, night@example.org"
    assert "missing_days: 3" in message.get_payload()


def test_a_mail_is_not_sent_in_the_clear_unless_told_so(smtp: Controller) -> None:
    with pytest.raises(Exception, match="STARTTLS"):
        mail(smtp, starttls=True).send([BROKEN])
    assert smtp.handler.mails == []


def test_a_secret_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("THE_SECRET")
    hook = notifier(type="webhook", url="http://127.0.0.1:9", secret={"env": "THE_SECRET"})
    assert "s3cret" not in repr(hook)
    with pytest.raises(KeyError, match="the environment variable THE_SECRET"):
        hook.send([BROKEN])


@pytest.mark.parametrize(
    ("route", "broken", "warning"),
    [
        ({}, True, False),
        ({"severity": "WARN"}, True, True),
        ({"groups": ["tick"], "severity": "WARN"}, False, True),
        ({"groups": ["tick"]}, False, False),
    ],
)
def test_routes_go_by_group_and_severity(
    route: dict[str, Any], broken: bool, warning: bool
) -> None:
    found = Route(notify=["one"], **route)
    assert (found.takes(BROKEN), found.takes(WARNING)) == (broken, warning)


def test_a_wrong_configuration_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "alerts.yaml"
    path.write_text("{notifiers: {}, routes: [{notify: [nobody]}]}")
    with pytest.raises(ValueError, match="found nobody; remedy: describe it under `notifiers`"):
        Alerting.load(path)
    path.write_text("notifiers:\n  hook: {secret: *s3cret}\n")
    with pytest.raises(ValueError, match="line 2: expected YAML") as caught:
        Alerting.load(path)
    assert "s3cret" not in str(caught.value)
    with pytest.raises(ValidationError, match="recipients"):
        notifier(type="email", host="h", sender="s", recipients=[])
    with pytest.raises(ValidationError, match="secret"):
        notifier(type="webhook", url="http://h", secret="written here")


def test_the_bundled_configuration_is_right() -> None:
    found = Alerting.load(Path(__file__).parents[2] / "alerts.yaml")
    assert found.destinations(BROKEN) == ["log"]
    assert found.destinations(STALE) == ["log"]
    assert found.destinations(WARNING) == []
