"""The command line.

Exit codes: 0 done, 1 the work failed, 2 a setting or an argument is wrong, 130 interrupted.

Each command imports what it needs when it is called: all of it together takes a second, on a small machine several, and
nobody should wait so long for a help text.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated

import anyio
import typer
from rich.console import Console

from vodkeep import __version__
from vodkeep.accounts.model import Provider
from vodkeep.chat.forms import Form
from vodkeep.clock import SystemClock
from vodkeep.errors import SettingsError, VodkeepError
from vodkeep.keep.origins import How, Origin
from vodkeep.pipeline.model import HIGHEST_PRIORITY, DownloadState
from vodkeep.pipeline.roles import Role, parse_roles
from vodkeep.settings import Settings, load_settings
from vodkeep.telemetry.log import configure_logging, get_logger, mask_values, masked_text

if TYPE_CHECKING:
    from vodkeep.action_command import Request

MOST_DOWNLOADS = 64
"""What MAX_CONCURRENT_DOWNLOADS takes at most."""

EXIT_FAILED = 1
EXIT_SETTINGS = 2
EXIT_INTERRUPTED = 130

# After SIGTERM everything has this long; then the process ends whatever still runs. The journal makes that safe.
SHUTDOWN_LIMIT_S = 25.0

app = typer.Typer(
    help="Keeps a streamer's Twitch broadcasts for good.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

tools = typer.Typer(help="The programs that Vodkeep calls: yt-dlp and ffmpeg.", no_args_is_help=True)
app.add_typer(tools, name="tools")

circuit = typer.Typer(help="The circuit breaker of each channel.", no_args_is_help=True)
app.add_typer(circuit, name="circuit")

emotes = typer.Typer(help="The emotes and badges that chat is shown with.", no_args_is_help=True)
app.add_typer(emotes, name="emotes")

retention = typer.Typer(help="What may go from the disk, and having it back.", no_args_is_help=True)
app.add_typer(retention, name="retention")

chat = typer.Typer(help="The chats of items: as files, from files, without a person.", no_args_is_help=True)
app.add_typer(chat, name="chat")

library = typer.Typer(help="The folders of kept items.", no_args_is_help=True)
app.add_typer(library, name="library")

publish = typer.Typer(help="What is published on YouTube.", no_args_is_help=True)
app.add_typer(publish, name="publish")

tokens = typer.Typer(help="The connected accounts at Twitch and YouTube.", no_args_is_help=True)
app.add_typer(tokens, name="tokens")

Items = Annotated[list[str], typer.Argument(metavar="ITEM...", help="Ids of items, or their addresses at Twitch.")]

EnvFile = Annotated[
    Path | None,
    typer.Option(
        "--env-file", help="Read variables from this file; the environment has the last word.", dir_okay=False
    ),
]

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")]


@app.command()
def run(
    env_file: EnvFile = None,
    roles: Annotated[
        str,
        typer.Option(help="What this process does of: web (the page and the API), watch (plan), work (capture)."),
    ] = "web,watch,work",
    workers: Annotated[
        int | None,
        typer.Option(help="Captures at once in this process; else MAX_CONCURRENT_DOWNLOADS."),
    ] = None,
) -> None:
    """Find broadcasts, keep them, and serve the status page until told to stop."""
    settings = _settings(env_file)
    configure_logging(settings.log.level, settings.log.format)
    _end(lambda: anyio.run(_run, *_process(settings, roles, workers)))


@app.command()
def archive(
    vod: Annotated[str, typer.Argument(help="The id of a VOD, or its address at Twitch.")],
    env_file: EnvFile = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the log on standard error.")] = False,
) -> None:
    """Keep one VOD now. Needs no Twitch credentials."""
    settings = _settings(env_file)
    configure_logging(settings.log.level if verbose else "critical", settings.log.format, sys.stderr)
    _end(lambda: anyio.run(_archive, settings, vod))


@chat.command("export")
def chat_export(
    item: Annotated[str, typer.Argument(help="The id of an item, or its address at Twitch.")],
    form: Annotated[
        Form,
        typer.Option(
            "--format",
            help="ndjson keeps everything; json is TwitchDownloader's; txt, vtt and ass are for reading and players.",
        ),
    ] = Form.NDJSON,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file to write; else standard output.", dir_okay=False)
    ] = None,
    env_file: EnvFile = None,
) -> None:
    """Write an item's chat as a file."""
    from vodkeep.chat_command import export_chat

    settings = _settings(env_file)
    configure_logging("critical", settings.log.format, sys.stderr)
    _end(lambda: anyio.run(export_chat, settings, item, form, output, Console()))


@chat.command("import")
def chat_import(
    item: Annotated[str, typer.Argument(help="The id of an item, or its address at Twitch.")],
    file: Annotated[
        Path,
        typer.Argument(help="JSON of TwitchDownloader or yt-dlp (live_chat, rechat), or our NDJSON.", dir_okay=False),
    ],
    env_file: EnvFile = None,
) -> None:
    """Bring a chat from a file into an item; twice does no harm."""
    from vodkeep.chat_command import import_chat

    settings = _settings(env_file)
    configure_logging("critical", settings.log.format, sys.stderr)
    _end(lambda: anyio.run(import_chat, settings, item, file, Console()))


@chat.command("erase")
def chat_erase(
    user: Annotated[str, typer.Option("--user", help="Whose messages: a login, or Twitch's number.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be erased.")] = False,
    as_json: AsJson = False,
    env_file: EnvFile = None,
) -> None:
    """Remove a person's messages everywhere, for good: database, search, folders, journals."""
    from vodkeep.chat_command import EraseOptions, erase_person

    settings = _settings(env_file)
    configure_logging("critical", settings.log.format, sys.stderr)
    options = EraseOptions(user, dry_run, as_json)
    _end(lambda: anyio.run(erase_person, settings, SystemClock(), options, Console()))


@app.command("import")
def import_(
    origin: Annotated[Origin, typer.Argument(help="The program that made the recordings.")],
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Folders, or files in them.", exists=False)],
    how: Annotated[
        How, typer.Option(help="copy leaves the source's video, link shares it, move takes it once all is proven.")
    ] = How.COPY,
    vod_id: Annotated[str | None, typer.Option("--id", help="The VOD's id, where nothing tells it.")] = None,
    channel: Annotated[str | None, typer.Option(help="The channel's login, where nothing tells it.")] = None,
    publish: Annotated[bool, typer.Option("--publish", help="Have them uploaded like any other.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be taken in.")] = False,
    as_json: AsJson = False,
    env_file: EnvFile = None,
) -> None:
    """Take recordings of other programs into the archive, with their chats."""
    from vodkeep.catalog.model import video_id_from
    from vodkeep.import_command import ImportOptions, import_recordings
    from vodkeep.pipeline.importing import Wishes

    settings = _settings(env_file)
    configure_logging("critical", settings.log.format, sys.stderr)

    async def work() -> int:
        try:
            number = None if vod_id is None else str(video_id_from(vod_id))
        except ValueError as error:
            raise SettingsError([str(error)]) from error
        login = channel.strip().lower() if channel else None
        wishes = Wishes(how, number, login, publish)
        options = ImportOptions(origin, tuple(paths), wishes, dry_run, as_json)
        return await import_recordings(settings, SystemClock(), options, Console())

    _end(lambda: anyio.run(work))


@app.command()
def rescan(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be entered.")] = False,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Make the database again from the folders, or enter those it does not know."""
    from vodkeep.rescan_command import RescanOptions
    from vodkeep.rescan_command import rescan as run_rescan

    options = RescanOptions(dry_run, as_json)
    _look(env_file, lambda settings: run_rescan(settings, SystemClock(), options, Console()))


@app.command()
def scrub(
    vods: Annotated[list[str] | None, typer.Argument(help="Ids of items, or their addresses at Twitch.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every item once, also those read lately.")] = False,
    full_speed: Annotated[bool, typer.Option("--full-speed", help="Without the limit of SCRUB_RATE.")] = False,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Read what was kept and compare it with its checksums, longest ago first; mend what can be."""
    from vodkeep.scrub_command import ScrubOptions
    from vodkeep.scrub_command import scrub as run_scrub

    if everything and vods:
        _refuse(SettingsError(["Name items, or give --all."]))
    options = ScrubOptions(tuple(vods or ()), everything=everything, full_speed=full_speed, as_json=as_json)
    _look(env_file, lambda settings: run_scrub(settings, SystemClock(), Console(), options))


@app.command()
def backup(
    target: Annotated[Path, typer.Argument(help="The folder in which the backup becomes a folder of its own.")],
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Copy the database, while it is used or not."""
    from vodkeep.backup_command import back_up

    _look(env_file, lambda settings: back_up(settings, SystemClock(), target, Console(), as_json=as_json))


@app.command()
def restore(
    source: Annotated[Path, typer.Argument(help="The folder that a backup wrote.")],
    force: Annotated[
        bool, typer.Option("--force", help="Also into a database that is not empty, which is kept beside.")
    ] = False,
    env_file: EnvFile = None,
) -> None:
    """Have the database back from a backup."""
    from vodkeep.backup_command import restore as run_restore

    _look(env_file, lambda settings: run_restore(settings, SystemClock(), source, Console(), force=force))


@app.command()
def config(
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Show the effective configuration, secrets masked, with the source of each value."""
    from vodkeep.config_command import render_config

    render_config(_settings(env_file), Console(), as_json)


@app.command()
def verify(
    vod: Annotated[str | None, typer.Argument(help="The id of an item, or its address at Twitch.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every item, and every folder without one.")] = False,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also read every packet of the videos, and decode some pictures.")
    ] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Have what is damaged or missing fetched again by the service.")
    ] = False,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Check kept items against their manifests."""
    from vodkeep.verify_command import VerifyOptions
    from vodkeep.verify_command import verify as run_verify

    if everything == (vod is not None):
        _refuse(SettingsError(["Name one item, or give --all."]))
    settings = _settings(env_file)
    configure_logging("critical", settings.log.format, sys.stderr)
    options = VerifyOptions(vod, deep=deep, repair=repair, as_json=as_json)
    _end(lambda: anyio.run(run_verify, settings, SystemClock(), options, Console()))


@app.command()
def queue(
    states: Annotated[
        list[DownloadState] | None,
        typer.Option("--state", help="Only items in this state; may be repeated. Without it, all that are not kept."),
    ] = None,
    channel: Annotated[str | None, typer.Option("--channel", help="Only this channel, by its login.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="How many at most.")] = 50,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Show the queue, in the order in which it is taken."""
    from vodkeep.queue_command import QueueOptions, show_queue

    options = QueueOptions(tuple(states or ()), channel, limit, as_json)
    _look(env_file, lambda settings: show_queue(settings, SystemClock(), options, Console()))


@app.command()
def status(env_file: EnvFile = None, as_json: AsJson = False) -> None:
    """Show how things stand: figures, breakers, what is at work."""
    from vodkeep.queue_command import show_status

    _look(env_file, lambda settings: show_status(settings, SystemClock(), Console(), as_json=as_json))


@app.command()
def cancel(items: Items, env_file: EnvFile = None, as_json: AsJson = False) -> None:
    """Stop items until they are asked for again; what was fetched is kept."""
    from vodkeep import action_command as actions

    _ask(env_file, items, actions.cancel, as_json)


@app.command()
def retry(items: Items, env_file: EnvFile = None, as_json: AsJson = False) -> None:
    """Go on with items that wait, have failed, are parked or canceled."""
    from vodkeep import action_command as actions

    _ask(env_file, items, actions.retry, as_json)


@app.command()
def reprocess(
    items: Items,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Fetch them anew; what is there stays until the new one is proven.")
    ] = False,
    republish: Annotated[
        bool, typer.Option("--republish", help="Publish them anew; the videos at YouTube stay and are linked no more.")
    ] = False,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Do items again, kept ones too; what is whole is verified and not fetched."""
    from vodkeep import action_command as actions

    _ask(env_file, items, partial(actions.reprocess, fresh=fresh, republish=republish), as_json)


# A negative number is no option; a misspelt option is then no number, which is refused as well.
@app.command(context_settings={"ignore_unknown_options": True})
def priority(
    item: Annotated[str, typer.Argument(help="The id of an item, or its address at Twitch.")],
    number: Annotated[
        int,
        typer.Argument(help="Higher goes first; 0 at first.", min=-HIGHEST_PRIORITY, max=HIGHEST_PRIORITY),
    ],
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Let an item go before or after others; one at work is not disturbed."""
    from vodkeep import action_command as actions

    _ask(env_file, [item], partial(actions.set_priority, priority=number), as_json)


@app.command("skip-upload")
def skip_upload(
    items: Items,
    off: Annotated[bool, typer.Option("--off", help="Have them published after all.")] = False,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Never publish items."""
    from vodkeep import action_command as actions

    _ask(env_file, items, partial(actions.set_skip_upload, skip=not off), as_json)


@app.command()
def describe(
    item: Annotated[str, typer.Argument(help="The id of an item, or its address at Twitch.")],
    text: Annotated[str | None, typer.Option("--text", help="The description.")] = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="A file with the description, in UTF-8.", dir_okay=False)
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Use Twitch's description again.")] = False,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Say what YouTube is told about an item instead of Twitch's description."""
    from vodkeep import action_command as actions

    if (text is not None) + (file is not None) + clear != 1:
        _refuse(SettingsError(["Give one of --text, --file and --clear."]))
    if file is not None:
        try:
            text = file.read_text("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            _refuse(SettingsError([f"{file} cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}."]))
    _ask(env_file, [item], partial(actions.set_description, text=text or ""), as_json)


@publish.command("preview")
def publish_preview(
    item: Annotated[str, typer.Argument(help="The id of an item, or its address at Twitch.")],
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Show exactly what would be sent to YouTube; needs no account and sends nothing."""
    from vodkeep.publish_command import show_preview

    _look(env_file, lambda settings: show_preview(settings, item, Console(), as_json=as_json))


@library.command("check")
def library_check(
    write: Annotated[
        bool, typer.Option("--write", help="First write the files for media servers where they are missing or old.")
    ] = False,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Say what Jellyfin and Kodi would not take for what it is; needs no database."""
    from vodkeep.library_command import check_library

    _look(env_file, lambda settings: check_library(settings, Console(), write=write, as_json=as_json))


@tokens.command("list")
def tokens_list(env_file: EnvFile = None, as_json: AsJson = False) -> None:
    """Show which accounts are connected and how they stand; no token is printed."""
    from vodkeep.tokens_command import list_accounts

    _look(env_file, lambda settings: list_accounts(settings, SystemClock(), Console(), as_json=as_json))


@tokens.command("connect")
def tokens_connect(
    provider: Annotated[Provider, typer.Argument(help="twitch; YouTube is connected on the page.")],
    env_file: EnvFile = None,
) -> None:
    """Connect an account with a code that is typed on any device."""
    from vodkeep.tokens_command import connect

    _look(env_file, lambda settings: connect(settings, SystemClock(), provider, Console()))


@tokens.command("disconnect")
def tokens_disconnect(
    provider: Annotated[Provider, typer.Argument(help="twitch or youtube.")],
    channel: Annotated[
        str, typer.Option("--channel", help="Which one, as `vodkeep tokens list` shows it; else the one for all.")
    ] = "",
    env_file: EnvFile = None,
) -> None:
    """End a connection at the provider and forget its tokens."""
    from vodkeep.tokens_command import disconnect

    _look(env_file, lambda settings: disconnect(settings, SystemClock(), provider, channel, Console()))


@tokens.command("migrate")
def tokens_migrate(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Encrypt stored tokens that are plain text, or encrypted with ENCRYPTION_KEY_OLD; twice does no harm."""
    from vodkeep.tokens_command import migrate_tokens

    _look(env_file, lambda settings: migrate_tokens(settings, Console(), dry_run=dry_run, as_json=as_json))


@circuit.command("reset")
def circuit_reset(
    channel: Annotated[
        str | None, typer.Option("--channel", help="Only the breaker of this channel, by its login.")
    ] = None,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Close the circuit breakers before their cooldown is over."""
    from vodkeep import action_command as actions

    _look(
        env_file,
        lambda settings: actions.reset_circuit(settings, SystemClock(), channel, Console(), as_json=as_json),
    )


@emotes.command("tidy")
def emotes_tidy(
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove what is found; without it, nothing is changed.")
    ] = False,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Name the images of the emote vault that nothing leads to any more."""
    from vodkeep.emotes_command import tidy_emotes

    _look(env_file, lambda settings: tidy_emotes(settings, Console(), remove=remove, as_json=as_json))


@retention.command("plan")
def retention_plan(env_file: EnvFile = None, as_json: AsJson = False) -> None:
    """Show which videos would go, and why the others stay. Changes nothing."""
    from vodkeep.retention_command import show_plan

    _look(env_file, lambda settings: show_plan(settings, SystemClock(), Console(), as_json=as_json))


@retention.command("run")
def retention_run(env_file: EnvFile = None, as_json: AsJson = False) -> None:
    """Move the videos that the plan names into the trash, now and not at the next interval."""
    from vodkeep.retention_command import run as run_retention

    _look(env_file, lambda settings: run_retention(settings, SystemClock(), Console(), as_json=as_json))


@retention.command("undo")
def retention_undo(
    item: Annotated[str, typer.Argument(help="The id of an item, or its address at Twitch.")],
    env_file: EnvFile = None,
) -> None:
    """Bring the video of an item back from the trash, and protect it."""
    from vodkeep.retention_command import undo

    _look(env_file, lambda settings: undo(settings, SystemClock(), item, Console()))


@retention.command("list")
def retention_list(
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="How many at most.")] = 50,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Show what was decided, what is in the trash, and until when it can be undone."""
    from vodkeep.retention_command import show_entries

    _look(env_file, lambda settings: show_entries(settings, SystemClock(), Console(), limit=limit, as_json=as_json))


@retention.command("protect")
def retention_protect(
    items: Items,
    off: Annotated[bool, typer.Option("--off", help="Let the limits decide about them again.")] = False,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Never let the videos of items go."""
    from vodkeep import action_command as actions

    _ask(env_file, items, partial(actions.set_protected, protected=not off), as_json)


@app.command()
def doctor(env_file: EnvFile = None, as_json: AsJson = False) -> None:
    """Check the installation: disk, database, programs, Twitch. Changes nothing."""
    settings = _settings(env_file)
    configure_logging("critical", settings.log.format, sys.stderr)
    _end(lambda: _doctor(settings, as_json))


@tools.command("list")
def tools_list(env_file: EnvFile = None, as_json: AsJson = False) -> None:
    """Show the programs that are called, with version and origin."""
    from vodkeep.tools_command import show_tools

    settings = _settings(env_file)
    configure_logging("critical", settings.log.format, sys.stderr)
    _end(lambda: anyio.run(partial(show_tools, settings, Console(), as_json=as_json)))


@tools.command("upgrade")
def tools_upgrade(
    version: Annotated[
        str | None, typer.Option("--version", help="This version of yt-dlp, such as 2026.10.26; else the newest.")
    ] = None,
    vod: Annotated[str | None, typer.Option("--vod", help="Try it with this VOD, by id or address.")] = None,
    env_file: EnvFile = None,
) -> None:
    """Install a newer yt-dlp beside the present one, try it, and use it if it works."""
    from vodkeep.tools_command import upgrade_tools

    settings = _settings(env_file)
    configure_logging("critical", settings.log.format, sys.stderr)
    _end(lambda: anyio.run(partial(upgrade_tools, settings, SystemClock(), Console(), version=version, vod=vod)))


@tools.command("rollback")
def tools_rollback(env_file: EnvFile = None) -> None:
    """Use the yt-dlp from before the last upgrade again."""
    from vodkeep.tools_command import roll_back_tools

    settings = _settings(env_file)
    configure_logging("critical", settings.log.format, sys.stderr)
    _end(lambda: anyio.run(roll_back_tools, settings, SystemClock(), Console()))


@app.command()
def version() -> None:
    """Show the version."""
    sys.stdout.write(f"vodkeep {__version__}\n")


def main() -> None:
    """The console script."""
    sys.excepthook = _tell_bug
    app(prog_name="vodkeep")


def _tell_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A traceback of an error in the program, with every known secret masked."""
    sys.stderr.write(masked_text("".join(traceback.format_exception(kind, error, trace))))


def _settings(env_file: Path | None) -> Settings:
    try:
        settings = load_settings(os.environ, env_file)
    except SettingsError as error:
        _refuse(error)
    mask_values(settings.secret_values())
    return settings


def _look(env_file: Path | None, work: Callable[[Settings], Awaitable[int]]) -> None:
    """Run a command that only needs the database."""
    settings = _settings(env_file)
    configure_logging("critical", settings.log.format, sys.stderr)
    _end(lambda: anyio.run(work, settings))


def _ask(env_file: Path | None, items: list[str], request: Request, as_json: bool) -> None:
    from vodkeep.action_command import ask

    _look(
        env_file,
        lambda settings: ask(settings, SystemClock(), items, request, Console(), as_json=as_json),
    )


def _end(work: Callable[[], int]) -> None:
    """Run the command and end the process with the exit code that its outcome means."""
    try:
        code = work()
    except SettingsError as error:
        _refuse(error)
    except VodkeepError as error:
        sys.stderr.write(f"{error}\n{error.remedy}\n" if error.remedy else f"{error}\n")
        code = EXIT_FAILED
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    raise typer.Exit(code)


def _refuse(error: SettingsError) -> typer.Exit:
    for problem in error.problems:
        sys.stderr.write(f"{problem}\n")
    raise typer.Exit(EXIT_SETTINGS) from error


def _doctor(settings: Settings, as_json: bool) -> int:
    from vodkeep.doctor_command import examine

    diagnosis = anyio.run(partial(examine, settings, SystemClock(), Console(), as_json=as_json))
    if diagnosis.hangs:
        # A thread waits for a dead disk or server, and Python would wait for the thread.
        sys.stdout.flush()
        os._exit(diagnosis.code)
    return diagnosis.code


def _process(settings: Settings, roles: str, workers: int | None) -> tuple[Settings, frozenset[Role]]:
    """The settings and roles of this process of the service; raises `SettingsError`."""
    try:
        chosen = parse_roles(roles)
    except ValueError as error:
        raise SettingsError([str(error)]) from error
    if workers is None:
        return settings, chosen
    if not 1 <= workers <= MOST_DOWNLOADS:
        raise SettingsError([f"--workers takes a number from 1 to {MOST_DOWNLOADS}."])
    if Role.WORK not in chosen:
        raise SettingsError(["--workers says how many captures run at once, and this process has no role work."])
    pipeline = settings.pipeline.model_copy(update={"max_concurrent_downloads": workers})
    return settings.model_copy(update={"pipeline": pipeline}), chosen


async def _run(settings: Settings, roles: frozenset[Role]) -> int:
    from vodkeep.bootstrap import open_service, run_service

    try:
        async with open_service(settings, SystemClock(), roles) as service, anyio.create_task_group() as tasks:
            tasks.start_soon(_stop_at_signal, tasks.cancel_scope)
            await run_service(service)
    except ExceptionGroup as group:
        raise _leaf(group) from group
    get_logger("service").info("stopped")
    return 0


def _leaf(group: Exception) -> Exception:
    """The one error inside groups of one; task groups wrap what ends them."""
    while isinstance(group, ExceptionGroup) and len(group.exceptions) == 1:
        group = group.exceptions[0]
    return group


async def _archive(settings: Settings, vod: str) -> int:
    from vodkeep.archive_command import archive as run_archive

    return await run_archive(settings, SystemClock(), vod, Console())


async def _stop_at_signal(scope: anyio.CancelScope) -> None:
    log = get_logger("service")
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for number in signals:
            log.info("stopping", signal=signal.Signals(number).name)
            _end_at_last()
            scope.cancel()
            return


def _end_at_last() -> None:
    """Make sure that the process ends, even if a thread hangs in a read from a dead disk."""
    signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
    signal.setitimer(signal.ITIMER_REAL, SHUTDOWN_LIMIT_S)
