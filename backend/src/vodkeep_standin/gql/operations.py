"""What a GQL body asks for, without answering it."""

from __future__ import annotations

import json
from typing import Any

from vodkeep_standin.gql.language import QueryError, parse_query


def operation_names(body: bytes) -> tuple[str, ...]:
    """Operation names of a body (single or batch); root fields for plain queries; empty when it is nonsense."""
    try:
        asked = json.loads(body)
    except ValueError:
        return ()
    names: list[str] = []
    for entry in asked if isinstance(asked, list) else [asked]:
        if isinstance(entry, dict):
            names.extend(_names_of(entry))
    return tuple(names)


def _names_of(entry: dict[str, Any]) -> list[str]:
    names = [entry["operationName"]] if isinstance(entry.get("operationName"), str) else []
    query = entry.get("query")
    if isinstance(query, str):
        variables = entry.get("variables")
        try:
            names += [root.name for root in parse_query(query, variables if isinstance(variables, dict) else {})]
        except QueryError:
            return names
    return names
