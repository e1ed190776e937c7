"""Every message kind is documented under its number."""

from __future__ import annotations

import pytest

from coordinator.model import messages
from coordinator.model.messages import Message
from tests.docs.pages import page

KINDS = (
    *messages.COMMANDS,
    *messages.REQUESTS,
    *messages.PROGRESS,
    *messages.DELIVERIES,
    *messages.DEAD_LETTERS,
)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_message_kind_is_documented_with_its_number_and_fields(kind: type[Message]) -> None:
    text = page("messages.md")
    _, found, rest = text.partition(f"\n### {kind.__name__}\n")
    assert found
    section = rest.partition("\n### ")[0]
    assert section.startswith(f"\nKind {kind.__struct_config__.tag}. ")
    shared = {*Message.__struct_fields__, *messages.Command.__struct_fields__}
    assert {field for field in kind.__struct_fields__ if f"| `{field}` |" not in section} <= shared
