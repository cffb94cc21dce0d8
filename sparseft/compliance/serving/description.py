"""The API's own description: JSON Schemas of what goes in and out, for OpenAPI and /v1/schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sparseft.compliance.schema import Schema
from sparseft.compliance.serving.body import Limits
from sparseft.compliance.serving.problems import KINDS

__all__ = ["answers", "evaluation_answers", "evaluation_body", "schema_content"]

_EXAMPLE = {
    "id": "c1",
    "turns": [
        {"speaker": "agent", "text": "Good morning, how can I help?"},
        {"speaker": "customer", "text": "I would like to change something."},
    ],
}


def schema_content(schema: Schema, api_version: str) -> dict[str, Any]:
    """What GET /v1/schema answers: the JSON Schema of a record's values, and a table of fields."""
    return {
        "name": schema.name,
        "title": schema.title,
        "api_version": api_version,
        "critical": {"field": schema.critical, "alarm": list(schema.alarm)},
        "json_schema": schema.json_schema(),
        "fields": [
            {
                "name": field.name,
                "kind": field.kind,
                "description": field.description,
                "nullable": field.nullable,
                "by": field.by,
                "rule": field.rule,
                "values": dict(field.values) if field.values else None,
            }
            for field in schema.fields
        ],
    }


def evaluation_body(limits: Limits) -> dict[str, Any]:
    """OpenAPI's description of a body with one transcript or a list."""
    words = {"type": "string"}
    turn = {
        "type": "object",
        "properties": {
            "speaker": {"type": "string", "enum": ["agent", "customer", "unknown"]},
            "text": words,
        },
        "required": ["text"],
    }
    name = {"type": ["string", "integer"], "description": "stands in the record"}
    turns = {"type": "array", "items": turn, "minItems": 1, "maxItems": limits.max_turns}
    transcript = {
        "type": "object",
        "properties": {"id": name, "turns": turns, "text": words},
        "anyOf": [{"required": ["turns"]}, {"required": ["text"]}],
    }
    several = {
        "type": "array",
        "items": transcript,
        "minItems": 1,
        "maxItems": limits.max_transcripts,
    }
    content = {"schema": {"anyOf": [transcript, several]}, "example": _EXAMPLE}
    return {"required": True, "content": {"application/json": content}}


def evaluation_answers(schema: Schema) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's description of the answers to an evaluation."""
    values = {key: each for key, each in schema.json_schema().items() if key != "$schema"}
    record = {
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "schema": {"type": "string", "const": schema.name},
            "values": values,
            "provenance": {
                "type": "object",
                "description": "by field: source (model, rule, rule override), reason, "
                "confidence, evidence as [turn, start, end], model_value",
            },
            "review": {
                "type": "array",
                "items": {"type": "string"},
                "description": "why a person should look at it; empty where nobody must",
            },
            "notes": {"type": "object", "description": "latency, tokens, model calls"},
            "error": {"type": "string", "description": "of a list's transcript that failed"},
        },
        "required": ["id", "schema"],
    }
    found: dict[int | str, dict[str, Any]] = {
        200: {
            "description": "the record, or a list of records in the order of the transcripts; in a "
            "list, a transcript that could not be evaluated has an error in place of values",
            "content": {
                "application/json": {
                    "schema": {"anyOf": [record, {"type": "array", "items": record}]}
                }
            },
        }
    }
    kinds = [kind for kind in KINDS if kind not in ("not_found", "method_not_allowed")]
    return {**found, **answers([kind for kind in kinds if kind != "client_gone"])}


def answers(kinds: Sequence[str]) -> Mapping[int | str, dict[str, Any]]:
    """OpenAPI's description of errors."""
    text = {"type": "string"}
    error = {
        "type": "object",
        "properties": {"kind": text, "message": text, "request_id": text},
        "required": ["kind", "message", "request_id"],
    }
    schema = {"type": "object", "properties": {"error": error}, "required": ["error"]}
    return {
        KINDS[kind][0]: {
            "description": f"{kind}: {KINDS[kind][1]}",
            "content": {"application/json": {"schema": schema}},
        }
        for kind in kinds
    }
