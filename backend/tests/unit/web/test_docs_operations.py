"""docs/operations.md tells the truth about the code: routes, metrics, fields of /status and of the log."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from support.clock import FakeClock
from vodkeep.accounts.setup import build_accounts
from vodkeep.bootstrap import build_previewer
from vodkeep.chat.reading import ChatReader
from vodkeep.chat.vault.files import ImageFiles
from vodkeep.chat.vault.replay import EmoteReplay
from vodkeep.db.engine import Database
from vodkeep.pipeline.actions import Actions
from vodkeep.pipeline.chat_library import ChatLibrary
from vodkeep.pipeline.retention import build_retention
from vodkeep.settings import load_settings
from vodkeep.telemetry.log import get_logger
from vodkeep.telemetry.metrics import Metrics
from vodkeep.web.access import OPEN_PATHS
from vodkeep.web.app import WebDeps, create_app
from vodkeep.web.reading import DatabaseStatusReader
from vodkeep.web.schema import ActiveDownload, ChannelStatus, Progress, Status

BACKEND = Path(__file__).parents[3]
PAGE = (BACKEND.parent / "docs" / "operations.md").read_text(encoding="utf-8")
SOURCE = BACKEND / "src" / "vodkeep"

# Fields that the log adds by itself or that name an exception to be shown.
STANDARD = {"time", "level", "msg", "component", "corr"}
NOT_FIELDS = {"exc_info"}


async def _never(_item_id: str) -> bool:
    raise AssertionError


def section(title: str) -> str:
    """The text below a heading, up to the next one of the same or a higher level."""
    match = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^#{{1,3}} |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert match is not None, title
    return match[2]


def first_column(title: str) -> set[str]:
    """What stands in backquotes in the first column of the table below a heading."""
    names: set[str] = set()
    for cell in re.findall(r"^\| ([^|]*`[^|]*) \|", section(title), re.MULTILINE):
        names |= set(re.findall(r"`([^`]+)`", cell))
    return names


@cache
def logged_fields() -> dict[str, set[str]]:
    """Every keyword that some call of a logger in the source passes, with the modules that do.

    Values passed as ``**fields`` are dictionaries made in the same module: their literal keys count too.
    """
    fields: dict[str, set[str]] = {}
    for path in SOURCE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            function = call.func
            if not isinstance(function, ast.Attribute) or not ast.unparse(function.value).endswith("log"):
                continue
            if function.attr in {"debug", "info", "warning", "error", "exception"}:
                for keyword in call.keywords:
                    if keyword.arg is not None:
                        fields.setdefault(keyword.arg, set()).add(path.name)
    return fields


def test_every_route_is_documented_and_no_other() -> None:
    settings = load_settings({}, None)
    database = Database(settings.database.url())  # opens nothing before its first use
    app = create_app(
        WebDeps(
            database=database,
            reader=DatabaseStatusReader(database, ()),
            metrics=Metrics(),
            web=settings.web,
            pipeline=settings.pipeline,
            clock=FakeClock(),
            data_dir=Path(),
            actions=Actions(database, FakeClock(), get_logger("vod_process"), stop=_never, wake=lambda: None),
            chat=ChatReader(database),
            chats=ChatLibrary(database, database, Path()),
            previewer=build_previewer(settings, database),
            retention=build_retention(settings.retention, database, Path(), FakeClock()),
            accounts=build_accounts(settings, database, FakeClock()),
            emotes=EmoteReplay(database, ImageFiles(Path()), get_logger("chat_emotes")),
        )
    )
    routes = set(app.openapi()["paths"]) | {"/", "/static/{name}", "/openapi.json"}
    assert first_column("Addresses") == routes
    rows = re.findall(r"^\| `([^`]+)` \| (yes|no) \|", section("Addresses"), re.MULTILINE)
    assert {path for path, is_open in rows if is_open == "yes"} == OPEN_PATHS


def test_every_metric_is_documented_with_its_type_and_no_other() -> None:
    metrics = Metrics()
    metrics.expect("otter")
    exposed = {
        (line.split()[2], line.split()[3]) for line in metrics.render().decode().splitlines() if "# TYPE" in line
    }
    assert set(re.findall(r"^\| `(\w+)` \| (\w+) \|", section("Metrics"), re.MULTILINE)) == exposed
    assert list(text_string_to_metric_families(metrics.render().decode()))


def test_every_field_of_status_is_documented() -> None:
    assert first_column("The fields of `/status`") == set(Status.model_fields)
    text = section("The fields of `/status`")
    nested = {*ActiveDownload.model_fields, *Progress.model_fields, *ChannelStatus.model_fields}
    assert {name for name in nested if f"`{name}`" not in text} == set()


def test_every_log_field_is_documented() -> None:
    assert first_column("Fields of every line") == STANDARD
    documented = first_column("Fields of single lines") | STANDARD
    missing = {name: where for name, where in logged_fields().items() if name not in documented | NOT_FIELDS}
    assert missing == {}


def test_no_log_field_is_documented_that_nobody_writes() -> None:
    words = {
        node.value
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    written = set(logged_fields()) | words
    assert first_column("Fields of single lines") - written == set()


def test_every_component_is_documented() -> None:
    made = {
        match
        for path in SOURCE.rglob("*.py")
        for match in re.findall(r"get_logger\(\"(\w+)\"\)", path.read_text(encoding="utf-8"))
    }
    assert made - first_column("Components") == set()


def test_messages_that_the_page_tells_to_search_for_exist() -> None:
    source = "\n".join(path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py"))
    promised = {
        "twitch app token acquired",
        "circuit opened",
        "chat recorder disabled",
        "listening",
        "media not served",
        "discovery failed",
        "waiting for the database",
        "the database is away",
        "no new broadcasts will be found",
    }
    for message in promised:
        assert f"`{message}`" in PAGE, message
        assert f'"{message}"' in source, message
