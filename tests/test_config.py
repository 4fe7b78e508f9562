"""The service's settings: read without prefix, anchored at the project, refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from config import ServiceSettings
from jobq import ConfigError
from tests.support.processes import ROOT


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SMTP_URL", "OUTBOX", "MAIL_FROM", "SIMULATED_FAILURE_RATE", "JOBQ_PORT", "JOBQ_CONCURRENCY"):
        monkeypatch.delenv(name, raising=False)


def test_paths_belong_to_the_project_whatever_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = ServiceSettings.load()
    assert (settings.outbox, settings.data_dir) == (ROOT / "outbox", ROOT / ".jobq")

    monkeypatch.setenv("OUTBOX", "post/out")
    monkeypatch.setenv("JOBQ_DATA_DIR", str(tmp_path))
    settings = ServiceSettings.load()
    assert (settings.outbox, settings.data_dir) == (ROOT / "post/out", tmp_path)


def test_own_settings_have_no_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMTP_URL", "smtps://me:s3%40cret@mail.example.com:465")
    monkeypatch.setenv("SIMULATED_FAILURE_RATE", "0.25")
    monkeypatch.setenv("MAIL_FROM", "Jobs <jobs@example.com>")
    settings = ServiceSettings.load()
    assert settings.smtp_url is not None
    assert settings.smtp_url.get_secret_value() == "smtps://me:s3%40cret@mail.example.com:465"
    assert "s3%40" not in repr(settings)
    assert (settings.simulated_failure_rate, settings.mail_from) == (0.25, "Jobs <jobs@example.com>")


def test_an_empty_url_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """As compose files and shells write it."""
    monkeypatch.setenv("SMTP_URL", "")
    monkeypatch.setenv("JOBQ_REDIS_URL", "")
    settings = ServiceSettings.load()
    assert (settings.smtp_url, settings.redis_url) == (None, None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SMTP_URL", "http://me:s3cret@mail.example.com"),
        ("SMTP_URL", "smtp://"),
        ("SMTP_URL", "smtp://mail.example.com:99999"),
        ("MAIL_FROM", "nobody"),
        ("MAIL_FROM", "a@b.c\r\nBcc: x@y.z"),
        ("SIMULATED_FAILURE_RATE", "2"),
        ("SIMULATED_FAILURE_RATE", "often"),
        ("JOBQ_PORT", "65536"),
        ("JOBQ_REDIS_URL", "http://localhost"),
    ],
)
def test_a_wrong_value_is_one_line_without_secrets(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=rf"^{name}: [^\n]+$") as refused:
        ServiceSettings.load()
    assert "s3cret" not in str(refused.value)
    with pytest.raises(SystemExit, match=rf"^jobq: {name}: [^\n]+$"):
        ServiceSettings.load_or_exit()


def test_flags_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBQ_CONCURRENCY", "7")
    monkeypatch.setenv("JOBQ_REDIS_URL", "redis://environment")
    monkeypatch.setenv("OUTBOX", "post")
    settings = ServiceSettings.load()
    assert settings.having(concurrency=None) == settings

    chosen = settings.having(concurrency=2, queues="a,b", redis_url="redis://flag")
    assert (chosen.concurrency, chosen.queues, chosen.redis_url) == (2, ("a", "b"), "redis://flag")
    assert chosen.outbox == ROOT / "post"
    with pytest.raises(ConfigError, match="JOBQ_CONCURRENCY"):
        settings.having(concurrency=0)
