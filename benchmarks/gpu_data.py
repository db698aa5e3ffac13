"""The file of a GPU benchmark: what was measured where, the matrices once, and a line for each record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["read", "write"]


def write(path: Path, header: dict[str, Any], layers: list[dict], records: list[dict]) -> None:
    """Write a run; `layer` in a record is an index into `layers`."""
    lines = [f'"{name}": {json.dumps(value)}' for name, value in header.items()]
    for name, rows in (("layers", layers), ("records", records)):
        inside = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows)
        lines.append(f'"{name}": [\n{inside}\n]')
    path.write_text("{" + ",\n".join(lines) + "}\n", encoding="utf-8")


def read(path: Path) -> dict[str, Any]:
    """Read a run; every record has the facts of its matrix too."""
    data = json.loads(path.read_text(encoding="utf-8"))
    if "layers" in data:
        data["records"] = [data["layers"][record["layer"]] | record for record in data["records"]]
    return data
