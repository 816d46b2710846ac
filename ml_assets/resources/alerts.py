"""Who is told when something breaks or recovers: a log file, a webhook, Slack, people by e-mail.

A notifier delivers a batch of alerts as one message, or raises; whoever calls it tries again.
Secrets are named in the configuration and read from the environment when a message is sent.
"""

import hashlib
import hmac
import html
import json
import os
import smtplib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path
from typing import Annotated, Literal

import requests
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ml_assets.settings import data_dir

TIMEOUT_SECONDS = 10
LONGEST = 20
"""Alerts that a message spells out; of more, the number is given."""


@dataclass(frozen=True)
class Alert:
    """Something broke, or is well again.

    Attributes:
        key: What it is about: two alerts about the same thing have the same key.
        recovered: Whether it is well again.
        severity: `ERROR` or `WARN`.
        group: The group, which is also the code location.
        title: What is the matter, in a line.
        asset: The asset's key, where it is about one.
        partition: The partition, where it is about one.
        check: The asset check, where it is about one.
        details: What was measured against what was allowed, and the like, by name.
        link: Where to look in the Dagster UI.
        time: When it happened, ISO 8601 in UTC.
        count: How often it happened until now.
    """

    key: str
    recovered: bool
    severity: str
    group: str
    title: str
    asset: str = ""
    partition: str = ""
    check: str = ""
    details: dict[str, str] = field(default_factory=dict)
    link: str = ""
    time: str = ""
    count: int = 1

    def lines(self) -> list[str]:
        """The alert as text, its headline first."""
        state = "RECOVERED" if self.recovered else self.severity
        # One line: a mail refuses a subject of two.
        headline = " ".join(f"{state} {self.group}: {self.title}".split())
        named = {"asset": self.asset, "partition": self.partition, "check": self.check}
        named = {name: value for name, value in named.items() if value} | self.details
        if self.count > 1:
            named["times"] = str(self.count)
        body = [f"  {name}: {value}" for name, value in named.items()]
        lines = [headline, *body, f"  at {self.time}", *([f"  {self.link}"] if self.link else [])]
        # What is not text (half of a surrogate pair) would hold up all alerts behind it.
        return [line.encode(errors="replace").decode() for line in lines]


def subject(alerts: Sequence[Alert]) -> str:
    """A batch in a line."""
    if len(alerts) == 1:
        return alerts[0].lines()[0]
    broken = sum(not alert.recovered for alert in alerts)
    groups = ", ".join(sorted({alert.group for alert in alerts}))
    return f"{broken} alerts, {len(alerts) - broken} recoveries: {groups}"


def text(alerts: Sequence[Alert]) -> str:
    """A batch as text, the first of them spelled out."""
    blocks = ["\n".join(alert.lines()) for alert in alerts[:LONGEST]]
    if len(alerts) > LONGEST:
        blocks.append(f"and {len(alerts) - LONGEST} more")
    return "\n\n".join(blocks)


class FromEnvironment(BaseModel):
    """A secret, by the name of the environment variable that holds it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    env: str

    def value(self) -> str:
        """The secret.

        Raises:
            KeyError: The variable is not set.
        """
        if not (found := os.environ.get(self.env)):
            raise KeyError(f"expected the environment variable {self.env}; found none; set it")
        return found


class Notifier(BaseModel, ABC):
    """Delivers alerts somewhere."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @abstractmethod
    def send(self, alerts: Sequence[Alert]) -> None:
        """Deliver a batch as one message.

        Raises:
            Exception: It could not be delivered; it may be tried again.
        """


class LogFile(Notifier):
    """Appends a line of JSON for each alert."""

    type: Literal["log"]
    path: str = Field(default="alerts.log", description="The file, below the data directory.")
    max_megabytes: float = Field(
        default=10,
        gt=0,
        description="Of a larger file the name gets `.1`, and a new one is begun.",
    )

    def send(self, alerts: Sequence[Alert]) -> None:
        """Append the alerts, and wait for the disk."""
        path = data_dir() / self.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file() and path.stat().st_size > self.max_megabytes * 1e6:
            path.replace(f"{path}.1")
        with path.open("a") as file:
            file.writelines(json.dumps(asdict(alert)) + "\n" for alert in alerts)
            file.flush()
            os.fsync(file.fileno())


class Webhook(Notifier):
    """Posts JSON with an HMAC signature.

    The header `X-Signature-256` is `sha256=` and the HMAC-SHA-256 of the header `X-Timestamp`, a
    dot and the body. `X-Delivery` is the same for the same batch: a receiver that has seen it may
    ignore a repetition.
    """

    type: Literal["webhook"]
    url: FromEnvironment | str = Field(description="Where to post.")
    secret: FromEnvironment = Field(description="The key of the signature.")

    def send(self, alerts: Sequence[Alert]) -> None:
        """Post the alerts."""
        body = json.dumps(
            {"subject": subject(alerts), "alerts": [asdict(alert) for alert in alerts]}
        ).encode()
        timestamp = str(int(datetime.now(UTC).timestamp()))
        signature = hmac.new(
            self.secret.value().encode(), f"{timestamp}.".encode() + body, hashlib.sha256
        )
        headers = {
            "Content-Type": "application/json",
            "X-Timestamp": timestamp,
            "X-Signature-256": f"sha256={signature.hexdigest()}",
            "X-Delivery": hashlib.sha256(body).hexdigest(),
        }
        _post(_given(self.url), body, headers, "the webhook")


class Slack(Notifier):
    """Writes to a Slack channel."""

    type: Literal["slack"]
    token: FromEnvironment = Field(description="The token of a Slack app that may write there.")
    channel: str = Field(description="The channel, such as `#ml`.")
    api_url: str = Field(default="https://slack.com/api/", description="Slack's API.")

    def send(self, alerts: Sequence[Alert]) -> None:
        """Write the alerts as one message."""
        from dagster_slack import SlackResource

        client = SlackResource(token=self.token.value()).get_client()
        client.base_url, client.timeout = self.api_url, TIMEOUT_SECONDS
        client.retry_handlers = []  # whoever calls tries again
        client.chat_postMessage(
            channel=self.channel,
            text=f"{_unmarked(subject(alerts))}\n```\n{_unmarked(text(alerts))}\n```",
            unfurl_links=False,
        )


class Email(Notifier):
    """Sends a mail, encrypted on its way unless told otherwise."""

    type: Literal["email"]
    host: str = Field(description="The SMTP server.")
    port: int = 587
    sender: str
    recipients: list[str] = Field(min_length=1)
    user: str = ""
    password: FromEnvironment | None = None
    starttls: bool = True

    def send(self, alerts: Sequence[Alert]) -> None:
        """Send the alerts as one mail."""
        message = EmailMessage()
        message["Subject"] = subject(alerts)
        message["From"] = self.sender
        message["To"] = ", ".join(self.recipients)
        message.set_content(text(alerts))
        with smtplib.SMTP(self.host, self.port, timeout=TIMEOUT_SECONDS) as server:
            if self.starttls:
                import ssl

                server.starttls(context=ssl.create_default_context())
            if self.password:
                server.login(self.user, self.password.value())
            server.send_message(message)


AnyNotifier = Annotated[LogFile | Webhook | Slack | Email, Field(discriminator="type")]


class Route(BaseModel):
    """Which alerts go where."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    groups: list[str] | Literal["all"] = "all"
    severity: Literal["ERROR", "WARN"] = Field(
        default="ERROR", description="The least severity; `WARN` means warnings and errors."
    )
    notify: list[str]

    def takes(self, alert: Alert) -> bool:
        """Whether an alert goes this way."""
        severe = alert.severity == "ERROR" or self.severity == "WARN"
        return severe and (self.groups == "all" or alert.group in self.groups)


class Heartbeat(BaseModel):
    """Calls a URL every minute: whoever misses the calls tells that nobody looks any more.

    It is a POST with the alert `Watchdog` in the form of Alertmanager's webhooks. healthchecks.io,
    Dead Man's Snitch and their like take any POST, and receivers of Alertmanager's dead man's
    switch want this one (https://prometheus.io/docs/alerting/latest/configuration/#webhook_config).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: FromEnvironment = Field(description="What to call.")
    failure_url: FromEnvironment | None = Field(
        default=None,
        description="What to call instead while alerts cannot be delivered, such as "
        "`https://hc-ping.com/UUID/fail`.",
    )

    def send(self, *, failed: bool) -> None:
        """Call the URL.

        Args:
            failed: Whether an alert could not be delivered.

        Raises:
            ConnectionError: There was no answer, or another one than yes.
            KeyError: The variable that holds the URL is not set.
        """
        url = ((failed and self.failure_url) or self.url).value()
        _post(url, _watchdog(), {"Content-Type": "application/json"}, "the heartbeat's receiver")


def _watchdog() -> bytes:
    labels = {"alertname": "Watchdog", "severity": "none", "job": "ml_assets"}
    told = {"summary": "The alert sensor of ml_assets looks at all groups."}
    now = datetime.now(UTC).isoformat(timespec="seconds")
    alert = {"status": "firing", "labels": labels, "annotations": told, "startsAt": now}
    return json.dumps(
        {
            "version": "4",
            "groupKey": "ml_assets",
            "status": "firing",
            "receiver": "ml_assets",
            "groupLabels": {"alertname": "Watchdog"},
            "commonLabels": labels,
            "commonAnnotations": told,
            "alerts": [alert],
        }
    ).encode()


def _post(url: str, body: bytes, headers: dict[str, str], whose: str) -> None:
    """Post, and tell neither the URL, which may be a secret, nor read what is answered.

    Raises:
        ConnectionError: There was no answer, or another one than yes.
    """
    try:
        with requests.post(
            url,
            data=body,
            headers=headers,
            timeout=TIMEOUT_SECONDS,
            allow_redirects=False,
            stream=True,
        ) as response:
            status = response.status_code
    except (requests.RequestException, ValueError) as error:
        raise ConnectionError(f"no answer of {whose}: {type(error).__name__}") from None
    if status // 100 != 2:
        raise ConnectionError(f"{whose} answered {status}")


class Alerting(BaseModel):
    """All notifiers by name, the routes to them, and the heartbeat."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    notifiers: dict[str, AnyNotifier]
    routes: list[Route]
    heartbeat: Heartbeat | None = None

    @classmethod
    def load(cls, path: Path) -> "Alerting":
        """Read the configuration.

        Raises:
            OSError: It cannot be read.
            ValueError: It is wrong, or a route names a notifier that there is not. The message
                shows no setting: a secret may have been written there by mistake.
        """
        import yaml

        if path.exists() and not path.is_file():
            raise ValueError(f"{path}: expected a file; found something else of that name")
        try:
            found = cls.model_validate(yaml.safe_load(path.read_text()))
        except RecursionError:
            raise ValueError(f"{path}: expected YAML; found too many levels of it") from None
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = f", line {mark.line + 1}" if mark else ""
            raise ValueError(f"{path}{line}: expected YAML; found a mistake in it") from None
        except ValidationError as error:
            mistakes = [
                f"{'.'.join(map(str, mistake['loc']))}: {mistake['msg']}"
                for mistake in error.errors(include_input=False)
            ]
            raise ValueError(f"{path}: {'; '.join(mistakes)}") from None
        named = {name for route in found.routes for name in route.notify}
        if unknown := named - set(found.notifiers):
            raise ValueError(
                f"{path}: expected routes to {', '.join(found.notifiers)}; found "
                f"{', '.join(sorted(unknown))}; remedy: describe it under `notifiers`"
            )
        return found

    def destinations(self, alert: Alert) -> list[str]:
        """The names of the notifiers that an alert goes to, each once."""
        found = [name for route in self.routes if route.takes(alert) for name in route.notify]
        return list(dict.fromkeys(found))


def _unmarked(value: str) -> str:
    """Text that Slack shows as it is (https://docs.slack.dev/messaging/formatting-message-text).

    >>> _unmarked("<!channel> & ```")
    "&lt;!channel&gt; &amp; '''"
    """
    return html.escape(value, quote=False).replace("```", "'''")


def _given(value: FromEnvironment | str) -> str:
    return value if isinstance(value, str) else value.value()
