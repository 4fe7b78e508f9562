"""The script that takes the pictures of the README."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

ROOT = Path(__file__).parents[2]


def size(picture: Path) -> tuple[int, int]:
    """Width and height, as a PNG's header has them."""
    head = picture.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", head[16:])
    return width, height


@pytest.mark.system
def test_the_script_takes_the_pictures(tmp_path: Path) -> None:
    """It writes both pictures, fit for a README, into the folder it is given, and leaves nothing elsewhere."""
    with TemporaryDirectory(prefix="jq") as place:  # Chromium's sockets want a short path
        done = subprocess.run(
            [sys.executable, ROOT / "docs" / "screenshots.py", tmp_path / "pictures"],
            cwd=tmp_path,
            env={**os.environ, "TMPDIR": place},
            capture_output=True,
            text=True,
            timeout=50,
        )
        assert (0, "", "") == (done.returncode, done.stdout, done.stderr)
        assert [] == list(Path(place).glob("jobq-*"))
    pictures = tmp_path / "pictures"
    assert ["dashboard.png", "job.png"] == sorted(file.name for file in pictures.iterdir())
    for picture in pictures.iterdir():
        width, height = size(picture)
        assert (1200, True) == (width, 800 <= height <= 1100), picture.name
        assert 40_000 < picture.stat().st_size < 200_000, picture.name
    assert ["pictures"] == [file.name for file in tmp_path.iterdir()]
