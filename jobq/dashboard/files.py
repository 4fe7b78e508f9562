"""The dashboard's own files, cacheable for ever under the URL that names their hash."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Final

from fastapi import APIRouter, HTTPException
from fastapi.responses import FileResponse

router = APIRouter(prefix="/dashboard")

STATIC: Final = Path(__file__).parent / "static"
_OURS: Final = ("dashboard.css", "dashboard.js", "icon.svg")
_VENDORED: Final = tuple(json.loads((STATIC / "MANIFEST.json").read_bytes()))
_VERSIONS: Final = {name: sha256((STATIC / name).read_bytes()).hexdigest()[:16] for name in (*_OURS, *_VENDORED)}
_MEDIA_TYPES: Final = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


@router.get("/static/{name}")
async def static_file(name: str, v: str = "") -> FileResponse:
    if name not in _VERSIONS:
        raise HTTPException(404)
    # While two versions of the service answer, the page of one may get the file of the other: that must not stick.
    cache = "public, max-age=31536000, immutable" if v == _VERSIONS[name] else "no-cache"
    return FileResponse(
        STATIC / name,
        media_type=_MEDIA_TYPES.get(Path(name).suffix, "text/plain"),
        headers={"Cache-Control": cache, "X-Content-Type-Options": "nosniff"},
    )


def static_url(name: str) -> str:
    """Relative to the dashboard's root."""
    return f"static/{name}?v={_VERSIONS[name]}"
