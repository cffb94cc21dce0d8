"""The page that describes the API: from its OpenAPI description, without scripts or a network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from typing import Any

from sparseft.compliance.schema import Schema

__all__ = ["api_page"]

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;
color:#1b1b1b}
h2{margin-top:2.5rem}code,pre{font-family:ui-monospace,monospace;font-size:.875rem}
pre{background:#f4f4f2;padding:.75rem;overflow:auto;max-height:24rem}
table{border-collapse:collapse;width:100%;display:block;overflow:auto}
th,td{text-align:left;vertical-align:top;padding:.35rem .75rem .35rem 0;
border-bottom:1px solid #ddd}
.method{display:inline-block;min-width:3.5rem;font-weight:600}
@media(prefers-color-scheme:dark){body{background:#161616;color:#e8e8e8}
pre{background:#222}th,td{border-color:#444}a{color:#8ab4f8}}
"""


def api_page(openapi: Mapping[str, Any], schema: Schema) -> str:
    """HTML of a service's routes, their errors, and the fields of its records."""
    info = openapi["info"]
    parts = [
        f"<h1>{escape(info['title'])} <small>{escape(info['version'])}</small></h1>",
        f"<p>{escape(info.get('description', ''))}</p>",
        '<p>As <a href="openapi.json">OpenAPI</a>, for tools.</p>',
    ]
    for path, methods in openapi["paths"].items():
        parts += [_route(path, method, route) for method, route in methods.items()]
    parts.append(_fields(schema))
    title = escape(info["title"])
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>"
    )


def _route(path: str, method: str, route: Mapping[str, Any]) -> str:
    name = escape(method.upper())
    parts = [
        f'<h2><span class="method">{name}</span> <code>{escape(path)}</code></h2>',
        f"<p>{escape(route.get('summary', ''))}. {escape(route.get('description', ''))}</p>",
    ]
    for kind, content in route.get("requestBody", {}).get("content", {}).items():
        parts.append(f"<h3>Body: {escape(kind)}</h3>")
        if "example" in content:
            parts.append(f"<pre>{_json(content['example'])}</pre>")
        parts.append(f"<details><summary>JSON Schema</summary><pre>{_json(content['schema'])}")
        parts.append("</pre></details>")
    rows = "".join(
        f"<tr><td>{escape(status)}</td><td>{escape(answer.get('description', ''))}"
        f"{_answer_schema(answer)}</td></tr>"
        for status, answer in route.get("responses", {}).items()
    )
    parts.append(f"<table><tr><th>Status</th><th>Meaning</th></tr>{rows}</table>")
    return "".join(parts)


def _answer_schema(answer: Mapping[str, Any]) -> str:
    shown = [content["schema"] for content in answer.get("content", {}).values() if content]
    return "".join(
        f"<details><summary>JSON Schema</summary><pre>{_json(each)}</pre></details>"
        for each in shown
        if each and "$ref" not in each
    )


def _fields(schema: Schema) -> str:
    rows = []
    for field in schema.fields:
        values = ", ".join(f"{v} ({t})" if t else v for v, t in (field.values or {}).items())
        given = "the model" if field.by == "model" else f"the rule {field.rule}"
        cells = (
            field.name + (" (critical)" if field.name == schema.critical else ""),
            field.kind + (" or null" if field.nullable else ""),
            given,
            field.description + (f": {values}" if values else ""),
        )
        rows.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    return (
        f"<h2>Fields of {escape(schema.title or schema.name)}</h2>"
        "<table><tr><th>Field</th><th>Kind</th><th>Given by</th><th>Meaning</th></tr>"
        f"{''.join(rows)}</table>"
    )


def _json(value: Any) -> str:
    return escape(json.dumps(value, indent=2, ensure_ascii=False))
