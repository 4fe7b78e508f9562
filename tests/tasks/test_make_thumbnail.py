"""make_thumbnail: pictures of one folder become small, and nothing outside of it is read."""

from __future__ import annotations

import io
import json
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

import tasks
from config import settings
from jobq import Client, Discard, Settings
from jobq.worker import Worker
from models import Thumbnail
from tests.support.processes import ROOT
from tests.support.servers import Valkey


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "pictures"
    (folder / "deep").mkdir(parents=True)
    chosen = settings.having(pictures=folder, thumbnails=tmp_path / "small")
    monkeypatch.setattr("tasks.settings", chosen)
    return folder


def test_a_thumbnail_is_small_and_upright(pictures: Path) -> None:
    """Width as asked, height in proportion, turned as the camera says, and never enlarged."""
    turned = Image.Exif()
    turned[0x0112] = 6  # the top is on the right
    Image.new("RGB", (400, 200), "red").save(pictures / "deep" / "a.jpg", exif=turned)
    made = tasks.make_thumbnail("deep/a.jpg", width=50)
    file = pictures.parent / "small" / "deep" / "a-50.jpg"
    assert made == Thumbnail(path=str(file), width=50, height=100, bytes=file.stat().st_size)
    with Image.open(file) as picture:
        assert (picture.size, picture.format) == ((50, 100), "JPEG")
    assert tasks.make_thumbnail("deep/a.jpg", width=4096).width == 200
    assert [file.name for file in file.parent.iterdir() if file.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("mode", "suffix"), [("RGBA", "png"), ("P", "gif"), ("P", "png"), ("I;16", "png"), ("1", "png"), ("CMYK", "jpg"),
                         ("L", "webp")],
)  # fmt: skip
def test_all_kinds_of_pictures(pictures: Path, mode: str, suffix: str) -> None:
    Image.new(mode, (300, 100)).save(pictures / f"x.{suffix}")
    made = tasks.make_thumbnail(f"x.{suffix}", width=30)
    with Image.open(made.path) as picture:
        assert picture.size == (30, 10)


def test_broken_and_huge_pictures_are_discarded(pictures: Path) -> None:
    """At once and with the reason: no retry makes a picture whole."""
    good = io.BytesIO()
    Image.new("RGB", (500, 500), "red").save(good, "PNG")
    whole = good.getvalue()
    files = {
        "text": (b"no picture", "none of JPEG, PNG, WEBP, GIF"),
        "empty": (b"", "none of JPEG"),
        "cut": (whole[: len(whole) // 2], "broken"),
        "bomb": (_png_of(8000, 8000), "64"),
        "larger bomb": (_png_of(60_000, 60_000), "too large"),
    }
    for name, (content, _) in files.items():
        (pictures / name).write_bytes(content)
    for name, (_, message) in files.items():
        with pytest.raises(Discard, match="8000 x 8000 pixels" if message == "64" else message):
            tasks.make_thumbnail(name)


def _png_of(width: int, height: int) -> bytes:
    """The beginning of a picture that claims to be this large."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"")
    parts = (struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in (head, data))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("path", ["../secret.png", "/etc/passwd", "link.png", "linked/secret.png", "deep", "none.png"])
def test_no_way_out_of_the_folder(pictures: Path, path: str) -> None:
    """Neither by dots nor by an absolute path nor by a link."""
    Image.new("RGB", (9, 9)).save(pictures.parent / "secret.png")
    (pictures / "link.png").symlink_to(pictures.parent / "secret.png")
    (pictures / "linked").symlink_to(pictures.parent)
    with pytest.raises(Discard, match="there is no picture"):
        tasks.make_thumbnail(path)


async def test_a_thumbnail_in_a_child_process(valkey: Valkey, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a job: made in a child, with its progress; a broken picture spends no retry."""
    monkeypatch.setenv("PICTURES", str(pictures))
    monkeypatch.setenv("THUMBNAILS", str(pictures.parent / "small"))
    Image.new("RGB", (400, 200), "red").save(pictures / "a.png")
    (pictures / "b.png").write_bytes(b"no picture")
    async with Client(valkey.url, registry=tasks.registry) as client:
        good = await client.submit(tasks.make_thumbnail.job("a.png", width=40))
        bad = await client.submit(tasks.make_thumbnail.job("b.png"))
        assert await Worker(Settings(redis_url=valkey.url), tasks.registry, burst=True).run() == 0
        assert ((await good.result(1)).width, (await bad.get()).attempt) == (40, 1)
        with valkey.client() as redis:
            told = [json.loads(entry[b"data"]) for _, entry in redis.xrange(f"job:{good.job_id}:events")]
    assert [entry["fraction"] for entry in told if "fraction" in entry][-1] == 1.0


def test_the_example_is_there() -> None:
    """So that the task works as the docs and the demo show it."""
    assert (ROOT / "pictures" / tasks.make_thumbnail.defaults.example["path"]).is_file()
