"""From the environment and a file to ``Settings``, or to every problem at once."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from io import StringIO
from pathlib import Path

from dotenv.parser import parse_stream
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from vodkeep.errors import SettingsError
from vodkeep.settings.dsn import MASK
from vodkeep.settings.model import Given, Settings, Variable, declared_variables

ENV_FILE_VARIABLE = "VODKEEP_ENV_FILE"

_LARGEST_FILE = 1_000_000  # bytes; a video named by mistake is refused instead of read
_LONGEST_SHOWN = 80  # characters of a bad value that a sentence repeats

# The rights with which YouTube lets a playlist be changed (developers.google.com/youtube/v3/docs/playlistItems/insert).
_MANAGES = re.compile(r"/auth/youtube(?:\.force-ssl|partner)?(?:[\s,]|$)")

# An unknown name that begins like ours is worth a warning even when it resembles nothing we know.
_OWN_PREFIXES = (
    "BACKFILL_", "CAPTURE_", "CHAT_", "CIRCUIT_", "DOWNLOAD_", "PROCESSING_", "RATE_LIMIT_", "RETENTION_",
    "TWITCH_", "UPLOAD_", "VOD_", "YOUTUBE_", "YTDLP_", "YT_",
)  # fmt: skip


def load_settings(environ: Mapping[str, str], env_file: Path | None = None) -> Settings:
    """The settings in ``environ`` over those in ``env_file`` (or the file that ``VODKEEP_ENV_FILE`` names).

    A variable set to nothing counts as not set. Raises ``SettingsError`` with one sentence for each problem.
    """
    problems: list[str] = []
    if env_file is None and environ.get(ENV_FILE_VARIABLE, "").strip():
        env_file = Path(environ[ENV_FILE_VARIABLE].strip())
    in_file = _read_file(env_file, problems) if env_file is not None else {}
    variables = {variable.name: variable for variable in declared_variables()}
    given = Given(
        environment=_present(environ, variables, "", problems),
        file=_present(in_file, variables, f" in {env_file}", problems),
    )
    values = {**given.file, **given.environment}
    problems += _contradictions(values)
    settings = None
    try:
        settings = Settings.read(given, (*_unknown(environ, in_file, variables), *_halves(values)))
    except ValidationError as error:
        # The chain is cut on purpose: the library's error repeats the values, secrets among them.
        problems += [
            _sentence(detail, variables, given, env_file)
            for detail in error.errors(include_url=False, include_input=False)
        ]
    if settings is None or problems:
        order = list(variables)
        raise SettingsError(sorted(problems, key=lambda problem: _position(problem, order)))
    return settings


def _position(problem: str, order: list[str]) -> int:
    """Problems of the file first, then in the order of the documentation."""
    name = problem.partition(" ")[0]
    return order.index(name) if name in order else -1


def _read_file(path: Path, problems: list[str]) -> dict[str, str]:
    """The variables of an env file; later lines win. Nothing is substituted: a ``$`` in a password stays one."""
    try:
        if path.is_file() and path.stat().st_size > _LARGEST_FILE:
            problems.append(f"The env file {path} is larger than 1 MB, which no list of settings is.")
            return {}
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        problems.append(f"The env file {path} does not exist; backend/.env.example is one to start from.")
    except IsADirectoryError:
        problems.append(f"The env file {path} is a folder.")
    except UnicodeDecodeError:
        problems.append(f"The env file {path} is not UTF-8 text.")
    except OSError as error:
        problems.append(f"The env file {path} cannot be read: {error.strerror}.")
    else:
        return _parse_file(text, path, problems)
    return {}


def _parse_file(text: str, path: Path, problems: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for binding in parse_stream(StringIO(text)):
        if binding.error:
            # The line itself is not repeated: it may be a secret.
            problems.append(
                f"Line {binding.original.line} of {path} cannot be read; expected is NAME=value, with quotes in pairs."
            )
        elif binding.key is not None:
            found[binding.key] = binding.value or ""
    return found


def _present(
    values: Mapping[str, str], variables: Mapping[str, Variable], where: str, problems: list[str]
) -> dict[str, str]:
    """Our variables that are set to something; white space around a value is no part of it."""
    present = {}
    for name, variable in variables.items():
        value = values.get(name, "").strip()
        if variable.form.lines:
            value = value.replace("\r\n", "\n").replace("\n", "\\n")
        if any(char < " " or char == "\x7f" or "\ud800" <= char <= "\udfff" for char in value):
            problems.append(f"{name}{where} holds control characters or bytes that are not UTF-8.")
        elif value:
            present[name] = value
    return present


def _contradictions(values: Mapping[str, str]) -> list[str]:
    """Settings that are fine alone and wrong together; looked at before types, so that they are told at once."""
    problems = [
        f"{one} is set but {other} is not; they belong together."
        for pair in (
            ("TWITCH_CLIENT_ID", "TWITCH_CLIENT_SECRET"),
            ("TWITCH_VOD_ID", "TWITCH_VOD_START"),
            ("YT_CLIENT_ID", "YT_CLIENT_SECRET"),
            ("ADMIN_USERNAME", "ADMIN_PASSWORD"),
        )
        for one, other in (pair, pair[::-1])
        if one in values and other not in values
    ]
    if "TWITCH_VOD_ID" in values and "TWITCH_CHANNEL" not in values:
        problems.append("TWITCH_VOD_ID is set but TWITCH_CHANNEL is not; it says whose chat is recorded.")
    if _is_on(values.get("YOUTUBE_UPLOAD_ENABLED")) and "YOUTUBE_UPLOAD_OWNERSHIP" not in values:
        problems.append(
            "YOUTUBE_UPLOAD_ENABLED is on but YOUTUBE_UPLOAD_OWNERSHIP is not set; it must be self or authorized."
        )
    return problems


def _is_on(text: str | None) -> bool:
    return text is not None and text.lower() in {"1", "true", "yes", "on"}


def _halves(values: Mapping[str, str]) -> list[str]:
    """Pairs of which one half does nothing; the service runs without it."""
    warnings = []
    if "TWITCH_BOT_USERNAME" in values and "TWITCH_OAUTH_TOKEN" not in values:
        warnings.append("TWITCH_BOT_USERNAME is set without TWITCH_OAUTH_TOKEN, so chat is read anonymously.")
    if "TWITCH_OAUTH_TOKEN" in values and "TWITCH_BOT_USERNAME" not in values:
        warnings.append("TWITCH_OAUTH_TOKEN is set without TWITCH_BOT_USERNAME, so chat is read anonymously.")
    if _is_on(values.get("YOUTUBE_UPLOAD_ENABLED")) and "YT_CLIENT_ID" not in values:
        warnings.append("YOUTUBE_UPLOAD_ENABLED is on without YT_CLIENT_ID, so nothing can be uploaded.")
    scopes = values.get("YT_SCOPES") or next(each.default for each in declared_variables() if each.name == "YT_SCOPES")
    warnings += [
        f"{name} is set, but YT_SCOPES holds no right to change playlists; "
        "add https://www.googleapis.com/auth/youtube to it."
        for name in ("YOUTUBE_PLAYLIST", "YOUTUBE_PLAYLIST_CHANNELS")
        if name in values and not _MANAGES.search(scopes)
    ]
    return warnings


def _unknown(environ: Mapping[str, str], in_file: Mapping[str, str], variables: Mapping[str, Variable]) -> list[str]:
    """Names that look like ours but are not: nobody reads them, so a slip would go unnoticed."""
    known = [*variables, ENV_FILE_VARIABLE]
    warnings = []
    for name in dict.fromkeys([*environ, *in_file]):
        if name in known or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{2,80}", name):
            continue
        close = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.8)
        if close:
            warnings.append(f"{name} is not a setting and is ignored; did you mean {close[0]}?")
        elif name.startswith(_OWN_PREFIXES):
            warnings.append(f"{name} is not a setting and is ignored.")
    return warnings


def _sentence(detail: ErrorDetails, variables: Mapping[str, Variable], given: Given, env_file: Path | None) -> str:
    """One error of the library as one sentence of ours."""
    variable = variables[str(detail["loc"][1])]
    in_environment = variable.name in given.environment
    value = given.environment[variable.name] if in_environment else given.file[variable.name]
    where = "" if in_environment else f" in {env_file}"
    reason = detail.get("ctx", {}).get("error")
    expected = str(reason) if isinstance(reason, ValueError) else f"must be a {variable.form.unit}"
    return f"{variable.name}{where} is {_shown(variable, value)} but {expected}."


def _shown(variable: Variable, value: str) -> str:
    masked = variable.form.mask(value)
    if masked == MASK:
        return MASK
    if len(masked) > _LONGEST_SHOWN:
        masked = masked[: _LONGEST_SHOWN - 1] + "…"
    # A mark that turns the writing direction would turn our sentence too.
    return '"' + "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in masked) + '"'
