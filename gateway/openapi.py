"""The contract of the gateway's own endpoints, as an OpenAPI 3.1 document. What is forwarded has its own contracts."""

from typing import Any

_TIME = {"type": "string", "format": "date-time"}
_NUMBER_OR_NULL = {"type": ["number", "null"]}


def _object(properties: dict[str, Any], *optional: str) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _text(description: str) -> dict[str, Any]:
    return {"description": description, "content": {"text/plain": {"schema": {"type": "string"}}}}


def _get(summary: str, responses: dict[str, Any], *parameters: dict[str, Any]) -> dict[str, Any]:
    responses |= {"default": {"$ref": "#/components/responses/Error"}}
    operation: dict[str, Any] = {"summary": summary, "responses": responses}
    if parameters:
        operation["parameters"] = list(parameters)
    return {"get": operation}


_VERBOSE = {
    "name": "verbose",
    "in": "query",
    "description": "list each check",
    "allowEmptyValue": True,
    "schema": {"type": "string"},
}

_SCHEMAS = {
    "Health": _object(
        {
            "status": {"enum": ["healthy", "unhealthy"]},
            "service": {"const": "api-gateway"},
            "version": {"type": "string"},
            "timestamp": _TIME,
        }
    ),
    "BackendHealth": _object(
        {
            "state": {"enum": ["unknown", "up", "down", "stale"]},
            "since": {"type": ["string", "null"], "format": "date-time"},
            "checked_at": {"type": ["string", "null"], "format": "date-time"},
            "age_seconds": _NUMBER_OR_NULL,
            "latency_ms": _NUMBER_OR_NULL,
            "last_error": {"type": ["string", "null"]},
        }
    ),
    "ServiceInfo": _object(
        {
            "name": {"type": "string"},
            "prefix": {"type": "string"},
            "status": {"const": "configured"},
            "health": _ref("BackendHealth"),
        }
    ),
    "Status": _object(
        {
            "status": {"enum": ["starting", "running", "stopping"]},
            "version": {"type": "string"},
            "services": {"type": "array", "items": _ref("ServiceInfo")},
        }
    ),
    "Error": _object(
        {
            "error": {"type": "string"},
            "message": {"type": "string"},
            "path": {"type": "string"},
            "timestamp": _TIME,
            "status_code": {"type": "integer"},
            "request_id": {"type": "string"},
            "service": {"type": "string"},
            "phase": {"enum": ["queue", "connect", "send", "first_byte", "body"]},
            "timings_ms": {"type": "object", "additionalProperties": {"type": "number"}},
        },
        "service",
        "phase",
        "timings_ms",
    ),
}


def document(version: str) -> dict[str, Any]:
    """The whole document, for this version of the gateway."""
    healthy, unhealthy = _json("healthy", _ref("Health")), _json("starting or stopping", _ref("Health"))
    alive, ready = _text("alive"), _text("ready")
    return {
        "openapi": "3.1.0",
        "info": {"title": "api-gateway", "version": version, "license": {"name": "MIT", "identifier": "MIT"}},
        "paths": {
            "/health": _get("The gateway's own health", {"200": healthy, "503": unhealthy}),
            "/livez": _get("Whether the process lives", {"200": alive, "503": _text("a task has crashed")}, _VERBOSE),
            "/readyz": _get("Whether to send traffic here", {"200": ready, "503": _text("not ready")}, _VERBOSE),
            "/api/gateway/status": _get("The gateway and what it knows", {"200": _json("status", _ref("Status"))}),
            "/api/gateway/services": _get(
                "The services behind the gateway",
                {"200": _json("services", {"type": "array", "items": _ref("ServiceInfo")})},
            ),
            "/api/gateway/openapi.json": _get("This document", {"200": _json("document", {"type": "object"})}),
        },
        "components": {"schemas": _SCHEMAS, "responses": {"Error": _json("a failure, explained", _ref("Error"))}},
    }
