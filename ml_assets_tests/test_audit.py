from pathlib import Path

import pytest

from ml_assets_tests import audit

SOUND = {"name": "sound", "version": "1.0", "vulns": []}
UNKNOWN = {"name": "unknown", "skip_reason": "unknown (2.0) is nowhere"}
HOLE = {"id": "PYSEC-1", "fix_versions": ["1.2"], "aliases": [], "description": ""}


def test_a_known_hole_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.report([SOUND, {"name": "weak", "version": "1.1", "vulns": [HOLE]}]) == 1
    assert capsys.readouterr().out == "weak 1.1: PYSEC-1, mended in 1.2\n"


def test_what_cannot_be_audited_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.report([SOUND, UNKNOWN]) == 0
    told = capsys.readouterr().out
    assert "1 of 2 packages could not be audited, such as: unknown (2.0) is nowhere" in told
    assert "1 packages without a known hole" in told


def test_without_the_network_nothing_fails_and_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    (tmp_path / "locked.txt").write_text("numpy==2.0.0\n")
    assert audit.main(str(tmp_path / "locked.txt")) == 0
    assert capsys.readouterr().out.startswith("nothing was audited, the vulnerabilities cannot be")


def test_an_audit_that_does_not_work_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.main("/nowhere/locked.txt") == 2
    assert "pip-audit failed" in capsys.readouterr().out
