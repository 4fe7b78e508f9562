"""`/docs` and `/redoc` from our own files: both pages work without internet and name no other host.

The application has to be made with `docs_url=None, redoc_url=None`; FastAPI's own pages would come first.
"""

from __future__ import annotations

import json
from base64 import b64encode
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import Final

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import FileResponse, HTMLResponse

router = APIRouter(include_in_schema=False)

_STATIC: Final = Path(__file__).parent / "static"
_DIGESTS: Final[dict[str, str]] = {
    name: entry["sha256"] for name, entry in json.loads((_STATIC / "MANIFEST.json").read_bytes()).items()
}
_MEDIA_TYPES: Final = {".js": "text/javascript", ".css": "text/css", ".png": "image/png"}

_SETTINGS: Final = {"dom_id": "#swagger-ui", "deepLinking": True, "tryItOutEnabled": True, "validatorUrl": None}

# Everything that varies is in the attribute, so that one hash in the policy permits this script and no other.
_START: Final = "SwaggerUIBundle(JSON.parse(document.currentScript.dataset.settings))"
_START_HASH: Final = b64encode(sha256(_START.encode()).digest()).decode()

# Both pages style themselves from their scripts. Swagger UI has its icons as data:, Redoc an empty logo.
_POLICY: Final = (
    "default-src 'none'; connect-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'; "
)
_SWAGGER_POLICY: Final = _POLICY + f"script-src 'self' 'sha256-{_START_HASH}'"
_REDOC_POLICY: Final = _POLICY + "script-src 'self'; worker-src blob:"  # its search runs in a worker

_SWAGGER_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} - Swagger UI</title>
<link rel="icon" type="image/png" href="{icon}">
<link rel="stylesheet" href="{style}">
</head>
<body style="margin: 0">
<noscript>This page needs JavaScript. What it shows is in <a href="{document}">the OpenAPI document</a>.</noscript>
<div id="swagger-ui"></div>
<script src="{script}"></script>
<script data-settings="{settings}">{start}</script>
</body>
</html>
"""

_REDOC_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} - ReDoc</title>
<link rel="icon" type="image/png" href="{icon}">
</head>
<body style="margin: 0">
<noscript>This page needs JavaScript. What it shows is in <a href="{document}">the OpenAPI document</a>.</noscript>
<redoc spec-url="{document}"></redoc>
<script src="{script}"></script>
</body>
</html>
"""


@router.get("/docs")
async def swagger_ui(request: Request) -> HTMLResponse:
    """The OpenAPI document as a page on which every route can be tried out."""
    document = _document_url(request)
    page = _SWAGGER_PAGE.format(
        title=escape(request.app.title),
        icon=_static_url("swagger-ui/favicon-32x32.png"),
        style=_static_url("swagger-ui/swagger-ui.css"),
        script=_static_url("swagger-ui/swagger-ui-bundle.js"),
        document=escape(document),
        settings=escape(json.dumps({"url": document, **_SETTINGS})),
        start=_START,
    )
    return _html(page, _SWAGGER_POLICY)


@router.get("/redoc")
async def redoc(request: Request) -> HTMLResponse:
    """The OpenAPI document as a page to read."""
    page = _REDOC_PAGE.format(
        title=escape(request.app.title),
        icon=_static_url("swagger-ui/favicon-32x32.png"),
        script=_static_url("redoc/redoc.standalone.js"),
        document=escape(_document_url(request)),
    )
    return _html(page, _REDOC_POLICY)


@router.get("/docs/static/{name:path}")
async def static_file(name: str, v: str = "") -> FileResponse:
    """A file of the manifest, for ever cacheable when asked for by its hash."""
    if name not in _DIGESTS:
        raise HTTPException(404)
    # While two versions of the service answer, the page of one may get the file of the other: that must not stick.
    cache = "public, max-age=31536000, immutable" if v == _version(name) else "no-cache"
    return FileResponse(
        _STATIC / name,
        media_type=_MEDIA_TYPES.get(Path(name).suffix, "text/plain"),
        headers={"Cache-Control": cache, "X-Content-Type-Options": "nosniff"},
    )


def _static_url(name: str) -> str:
    """Relative to the pages: that holds below any prefix, also one that only a proxy knows."""
    return f"docs/static/{name}?v={_version(name)}"


def _version(name: str) -> str:
    return _DIGESTS[name][:16]


def _document_url(request: Request) -> str:
    """The OpenAPI document is at the root of the application, this page perhaps below a prefix: climb out of it."""
    openapi_url: str | None = request.app.openapi_url
    if openapi_url is None:
        raise HTTPException(404)
    path: str = request.scope["path"]
    root: str = request.scope.get("root_path", "").rstrip("/") + "/"
    below = path.removeprefix(root).lstrip("/")
    return "../" * below.count("/") + openapi_url.lstrip("/")


def _html(page: str, policy: str) -> HTMLResponse:
    headers = {"Cache-Control": "no-cache", "Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff"}
    return HTMLResponse(page, headers=headers)
