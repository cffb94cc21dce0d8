"""The page that describes the proxy: from its OpenAPI description, without scripts or a network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from typing import Any

__all__ = ["proxy_page"]

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
h2{margin-top:2.5rem}code,pre{font-family:ui-monospace,monospace;font-size:.875rem}
pre{background:#8881;padding:.75rem;overflow:auto}td,th{text-align:left;vertical-align:top;
padding:.35rem .75rem .35rem 0;border-bottom:1px solid #8884}:root{color-scheme:light dark}
"""


def proxy_page(openapi: Mapping[str, Any]) -> str:
    """HTML of all routes with their bodies, headers and errors."""
    info = openapi["info"]
    title = escape(info["title"])
    routes = [
        _route(path, method, route)
        for path, methods in openapi["paths"].items()
        for method, route in methods.items()
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body><h1>{title}</h1>"
        f"<p>{escape(info.get('description', ''))}</p>"
        f'<p>As <a href="openapi.json">OpenAPI</a>, for tools.</p>{"".join(routes)}</body></html>'
    )


def _route(path: str, method: str, route: Mapping[str, Any]) -> str:
    parts = [
        f"<h2>{escape(method.upper())} <code>{escape(path)}</code></h2>",
        f"<p>{escape(route.get('summary', ''))}. {escape(route.get('description', ''))}</p>",
    ]
    for kind, content in route.get("requestBody", {}).get("content", {}).items():
        shown = json.dumps(content, indent=2, ensure_ascii=False)
        parts.append(f"<h3>Body: {escape(kind)}</h3><pre>{escape(shown)}</pre>")
    rows: list[tuple[str, str]] = []
    for status, answer in route.get("responses", {}).items():
        rows.append((status, answer.get("description", "")))
        headers = answer.get("headers", {}).items()
        rows += [(f"{status}, {name}", header["description"]) for name, header in headers]
    cells = "".join(f"<tr><td>{escape(a)}</td><td>{escape(b)}</td></tr>" for a, b in rows)
    parts.append(f"<table><tr><th>Status</th><th>Meaning</th></tr>{cells}</table>")
    return "".join(parts)
