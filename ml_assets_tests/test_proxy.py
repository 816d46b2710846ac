"""The reverse proxy of the deployed form, as its configuration has it, before servers that echo."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator

import pytest
import requests
from tenacity import Retrying, stop_after_delay, wait_fixed

from ml_assets_tests.deployment import ROOT
from ml_assets_tests.postgres import free_port
from ml_assets_tests.servers import echoing_server

CADDY = shutil.which("caddy")
LOGIN = ("team", "of-the-team")
OTHER_SITES = ["cross-site", "same-site"]
Ask = Callable[..., requests.Response]

pytestmark = [
    pytest.mark.skipif(not CADDY, reason="needs Caddy"),
    pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning"),
]


@pytest.fixture(scope="module")
def behind() -> Iterator[str]:
    """Where what the proxy stands before is found."""
    with echoing_server() as url:
        yield url.removeprefix("http://")


@pytest.fixture(scope="module")
def ask(behind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Ask the proxy for a path on one of its ports."""
    assert CADDY
    directory = tmp_path_factory.mktemp("proxy")
    ports = {port: str(free_port()) for port in ("8443", "8444", "8080")}
    text = (ROOT / "deploy/Caddyfile").read_text()
    text = re.sub("|".join(ports), lambda match: ports[match[0]], text)
    text = re.sub("webserver:3000|mlflow:5000", behind, text)
    text = text.replace("tls internal", "bind 127.0.0.1\n\ttls internal")
    version = subprocess.run([CADDY, "version"], check=True, capture_output=True, text=True).stdout
    if [int(part) for part in version.lstrip("v").split(".")[:2]] < [2, 8]:  # what Debian has
        text = text.replace("basic_auth", "basicauth")
    (directory / "Caddyfile").write_text(text)
    hashed = subprocess.run(
        [CADDY, "hash-password", "--plaintext", LOGIN[1]],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    environment = os.environ | {
        "PUBLIC_HOST": "localhost",
        "DAGSTER_USER": LOGIN[0],
        "DAGSTER_PASSWORD_HASH": hashed,
        "HOME": str(directory),
        "XDG_DATA_HOME": str(directory),
        "XDG_CONFIG_HOME": str(directory),
    }
    command = [CADDY, "run", "--config", str(directory / "Caddyfile"), "--adapter", "caddyfile"]

    def answer(port: int, path: str, method: str = "GET", **options: object) -> requests.Response:
        scheme = "http://127.0.0.1" if port == 8080 else "https://localhost"
        url = f"{scheme}:{ports[str(port)]}{path}"
        return requests.request(method, url, verify=False, timeout=30, **options)  # type: ignore[arg-type]

    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        for port in (8080, 8443, 8444):
            for attempt in Retrying(stop=stop_after_delay(30), wait=wait_fixed(0.1), reraise=True):
                with attempt:  # certificates are made meanwhile
                    answer(port, "/")
        yield answer
    finally:
        process.terminate()
        process.wait(30)


def test_the_health_check_is_answered(ask: Ask) -> None:
    assert ask(8080, "/").text == "well"


def test_dagster_wants_a_login(ask: Ask) -> None:
    assert ask(8443, "/runs").status_code == 401
    assert ask(8443, "/runs", auth=(LOGIN[0], "guessed")).status_code == 401
    assert ask(8443, "/runs", auth=LOGIN).text == "GET /runs"


def test_mlflow_asks_for_its_own(ask: Ask) -> None:
    assert ask(8444, "/api", "POST").text == "POST /api"


@pytest.mark.parametrize("port", [8443, 8444])
@pytest.mark.parametrize("site", OTHER_SITES)
def test_pages_of_other_sites_give_no_orders(ask: Ask, port: int, site: str) -> None:
    def by(mode: str) -> dict[str, str]:
        return {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": "document"}

    picture = ask(port, "/graphql?query=mutation", auth=LOGIN, headers=by("no-cors"))
    script = ask(port, "/graphql", "POST", auth=LOGIN, headers=by("cors"))
    form = ask(port, "/any", "POST", auth=LOGIN, headers=by("navigate"))
    link = ask(port, "/graphql?query=mutation", auth=LOGIN, headers=by("navigate"))
    framed = ask(port, "/", auth=LOGIN, headers=by("navigate") | {"Sec-Fetch-Dest": "iframe"})
    assert {answer.status_code for answer in (picture, script, form, link, framed)} == {403}


@pytest.mark.parametrize("site", OTHER_SITES)
def test_links_of_other_sites_lead_to_pages(ask: Ask, site: str) -> None:
    headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert ask(8443, "/runs/1", auth=LOGIN, headers=headers).text == "GET /runs/1"


def test_own_pages_give_orders(ask: Ask) -> None:
    headers = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}
    assert ask(8443, "/graphql", "POST", auth=LOGIN, headers=headers).text == "POST /graphql"
