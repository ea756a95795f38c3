"""docs/stand-in.md names everything one can ask of the stand-in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from vodkeep_standin.cli import build_parser
from vodkeep_standin.control.faults import fault_routes
from vodkeep_standin.control.irc import ChatFaults
from vodkeep_standin.control.requests import request_routes
from vodkeep_standin.control.videos import ROUTES
from vodkeep_standin.faults.base import Fault
from vodkeep_standin.faults.garbage import GarbageForm
from vodkeep_standin.faults.helix_body import HelixForm
from vodkeep_standin.faults.registry import Faults
from vodkeep_standin.faults.rule import AnyFault
from vodkeep_standin.irc.server import IrcServer
from vodkeep_standin.serving.requestlog import RequestLog

PAGE = (Path(__file__).parents[4] / "docs" / "stand-in.md").read_text(encoding="utf-8")
FAULTS: tuple[type[Fault], ...] = get_args(AnyFault)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_each_fault_and_its_members_are_documented(fault: type[Fault]) -> None:
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{fault.__struct_config__.tag}` |"))
    for field in msgspec.structs.fields(fault):
        assert f"`{field.name}`" in row


def test_each_fault_has_a_file_and_is_in_the_union() -> None:
    # Tests have faults of their own.
    ours = {fault for fault in Fault.__subclasses__() if fault.__module__.startswith("vodkeep_standin.")}
    assert ours == set(FAULTS)
    assert len({fault.__module__ for fault in FAULTS}) == len(FAULTS)


def test_all_forms_are_documented() -> None:
    forms = [*get_args(HelixForm), *get_args(GarbageForm)]
    assert [form for form in forms if f"`{form}`" not in PAGE] == []


def test_each_control_request_is_documented() -> None:
    written = [*ROUTES, *fault_routes(Faults(1)), *request_routes(RequestLog())]
    for route in written:
        path = re.sub(r"\(\?P<\w+>[^)]*\)", "<id>", route.pattern.pattern.removesuffix(r"\Z"))
        assert f"`{route.method} {path}`" in PAGE


def test_each_fault_of_the_chat_and_each_thing_one_can_do_to_it_is_documented() -> None:
    faults = [field.name for field in msgspec.structs.fields(ChatFaults)]
    actions = ["say", "burst", "event", "clear", "reconnect", "cut", "reset", "freeze", "ping"]
    assert all(callable(getattr(IrcServer, action)) for action in actions)
    assert [name for name in [*faults, *actions] if not re.search(rf"\b{name}\b", PAGE)] == []


def test_each_option_is_documented() -> None:
    options = [
        option for action in build_parser()._actions for option in action.option_strings if option.startswith("--")
    ]
    assert [option for option in options if f"`{option}`" not in PAGE and option != "--help"] == []
