"""Every generated file, as bytes, and the comparison with what is there.

In schemas/README.md only the dumps between `<!-- dump … -->` and `<!-- end -->` are generated.
"""

import re
from pathlib import Path
from typing import Final

from coordinator.contract import asyncapi, golden, json_schema, reference, samples, streams
from coordinator.model import messages

README: Final = "schemas/README.md"
OWNED: Final = ("schemas/json", "schemas/golden")
"""Folders with nothing but generated files; others in them are left over and removed."""

_DUMP: Final = re.compile(r"(<!-- dump (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def artifacts(root: Path) -> dict[str, bytes]:
    """Path below the root of the project → what is to stand there."""
    values = {name: messages.encode(message) for name, message in samples.samples()}
    found = {
        "schemas/asyncapi.yaml": asyncapi.text().encode(),
        "docs/messages.md": reference.text().encode(),
        "schemas/golden/routing.json": golden.as_json(golden.routing()),
        README: _with_dumps((root / README).read_text(encoding="utf-8"), values).encode(),
    }
    for kind in streams.KINDS:
        found[f"schemas/json/{kind.__name__}.json"] = golden.as_json(json_schema.message_schema(kind))
    for name, value in values.items():
        found[f"schemas/golden/{name}.msgpack"] = value
        found[f"schemas/golden/{name}.json"] = golden.as_json(golden.rendered(value))
    return found


def drift(root: Path) -> list[str]:
    """The paths that `write` would change, sorted."""
    wanted = artifacts(root)
    differing = [path for path, content in wanted.items() if _read(root / path) != content]
    return sorted(differing + _left_over(root, wanted))


def write(root: Path) -> list[str]:
    """Make the files what they are to be; the paths that were changed, sorted."""
    wanted = artifacts(root)
    changed = drift(root)
    for path in changed:
        if path not in wanted:
            (root / path).unlink()
            continue
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(wanted[path])
    return changed


def _with_dumps(text: str, values: dict[str, bytes]) -> str:
    def filled(match: re.Match[str]) -> str:
        opening, name, closing = match.groups()
        return f"{opening}```\n{golden.dump(values[name])}```\n{closing}"

    return _DUMP.sub(filled, text)


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _left_over(root: Path, wanted: dict[str, bytes]) -> list[str]:
    there = [path.relative_to(root).as_posix() for folder in OWNED for path in (root / folder).glob("*")]
    return [path for path in there if path not in wanted]
