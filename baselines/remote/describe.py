"""What run.json says of a server."""

from __future__ import annotations

from typing import Any

from baselines.remote.client import Client, Options
from evalkit.specs import PolicySpec

#: Items beyond which a list or map in a server's metadata is only counted, and characters of a text.
LONG, LONG_TEXT = 64, 1000


def describe(client: Client | None, spec: PolicySpec, options: Options) -> dict[str, Any]:
    """As `Policy.describe`: the server's address, family and own words, never its key."""
    found: dict[str, Any] = {"url": options.address.url,
                             "protocol": client.family if client else "auto",
                             "chunk_length": spec.chunk_length, "executed_steps": spec.executed_steps}
    if options.checkpoint:
        found["checkpoint"] = {"path": options.checkpoint}
    if client is None:
        return found
    if client.said is not None:
        found["server"] = shortened(client.said)
        if isinstance(client.said.get("checkpoint"), dict) and client.said["checkpoint"]:
            found["checkpoint"] = shortened(client.said["checkpoint"])
    if not client.seeded:
        found["note"] = (f"the {client.title} protocol carries no seed: a repetition gives other actions unless the "
                         "server itself is deterministic")
    elif client.said and client.said.get("described", {}).get("note"):
        found["note"] = shortened(str(client.said["described"]["note"]))
    return found


def shortened(value: Any) -> Any:
    """`value` as JSON types, long lists and maps counted, long texts cut."""
    if isinstance(value, (dict, list, tuple)) and len(value) > LONG:
        return f"{len(value)} items"
    if isinstance(value, dict):
        return {str(key)[:LONG_TEXT]: shortened(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [shortened(item) for item in value]
    if isinstance(value, (bool, int, float, type(None))):
        return value
    return str(value)[:LONG_TEXT]
