"""``make demo``: the real service at work on the pretended Twitch and YouTube, to be watched in a browser.

The service is an ordinary ``vodkeep run`` in a process of its own; it knows nothing of the demo but the addresses in
its environment. Its files lie in ``.demo`` and are made anew each time, so that there is something to watch; the media
stays cached. What it keeps it publishes, at an account that the demo connects as a person would.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import secrets
import shutil
import signal
import socket
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

from vodkeep_standin.faults.upload_bandwidth import UploadBandwidth
from vodkeep_standin.media.cache import default_cache_dir
from vodkeep_standin.oauth.person import connect_account
from vodkeep_standin.scenario import ids
from vodkeep_standin.scenario.builtin import demo_scenario
from vodkeep_standin.server import running_standin

_PREFERRED_PORT = 8080
# Marks a folder as ours to empty.
_MARK = ".made-by-the-demo"
# With --keep the tokens in the folder can be read again.
_KEY = ".encryption-key"
# And upload sessions that were cut off can be asked for, as they are addresses at the stand-in.
_STANDIN_PORT = ".standin-port"
# Slow enough to watch an upload.
_UPLOAD_BYTES_PER_S = 2_000_000.0


def main(arguments: list[str] | None = None) -> None:
    """Run the demo until interrupted; ends the process with 0, or with 1 when the service did not start."""
    parser = argparse.ArgumentParser(prog="make demo", description="The real service against pretended platforms.")
    parser.add_argument("--port", type=int, help=f"of the status page (default {_PREFERRED_PORT}, or any free one)")
    parser.add_argument("--dir", type=Path, default=Path(".demo"), help="where the archive goes (default .demo)")
    parser.add_argument("--keep", action="store_true", help="go on with the archive of the last time")
    parser.add_argument("--until-kept", type=int, metavar="N", help="end once N broadcasts are kept and published")
    chosen = parser.parse_args(arguments)
    with suppress(KeyboardInterrupt):
        raise SystemExit(asyncio.run(_demo(chosen)))


async def _demo(chosen: argparse.Namespace) -> int:
    began = time.monotonic()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    folder: Path = chosen.dir.resolve()
    if not chosen.keep:
        _forget_last_time(folder)
    _say("Preparing the pretended Twitch; the first time its broadcasts have to be filmed ...")
    standin_port = _standin_port_of(folder)
    async with running_standin(demo_scenario(), default_cache_dir(), port=standin_port) as standin:
        # New videos and tokens are never those of the last time.
        standin.youtube.random.seed()
        standin.world.google_tokens.random.seed()
        # One channel is live with a VOD that grows, the other without any.
        standin.start_stream(ids.OTHER_CHANNEL, title="Live, and no VOD of it yet", started_s_ago=90)
        standin.faults.add(UploadBandwidth(_UPLOAD_BYTES_PER_S), method="PUT", path="/upload/youtube/v3/videos")
        port = chosen.port or _free_port(_PREFERRED_PORT)
        url = f"http://127.0.0.1:{port}"
        service = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "vodkeep", "run"),
            env={
                **_own_environment(),
                **standin.env(),
                "DATA_DIR": str(folder),
                "HTTP_ADDR": f"127.0.0.1:{port}",
                "VOD_PROCESS_INTERVAL": "5s",
                "MAX_CONCURRENT_DOWNLOADS": "2",
                "PROCESSING_RETRY_COOLDOWN": "30s",
                "ENCRYPTION_KEY": _key_of(folder),
                "YT_REDIRECT_URI": f"{url}/api/v1/accounts/youtube/callback",
                "YOUTUBE_UPLOAD_ENABLED": "1",
                "YOUTUBE_UPLOAD_OWNERSHIP": "self",
                "UPLOAD_CHUNK_SIZE": "1MiB",
                "CHAT_AUTO_START": "1",
                "CHAT_AUTO_POLL_INTERVAL": "5s",
                "LOG_FORMAT": "text",
            },
            start_new_session=True,
        )
        watch = asyncio.create_task(_watch(url, chosen.until_kept, began, stop))
        try:
            ended = asyncio.create_task(service.wait())
            asked = asyncio.create_task(stop.wait())
            await asyncio.wait({ended, asked, watch}, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                _say(f"The service ended by itself with code {service.returncode}; its words are above.")
                return 1
            if watch.done():
                watch.result()
        finally:
            watch.cancel()
            if service.returncode is None:
                service.terminate()
                await service.wait()
    return 0


async def _watch(url: str, until_kept: int | None, began: float, stop: asyncio.Event) -> None:
    """Once the page is there, connect an account and tell the address; then say when broadcasts are published."""
    kept = -1
    while True:
        status = await asyncio.to_thread(_read_status, url)
        if status is not None:
            if kept < 0:
                await asyncio.to_thread(connect_account, url, "youtube")
                _say(
                    f"\n    Open  {url}\n\n    The archive grows in .demo, and what is kept is published at the"
                    " pretended YouTube; Ctrl-C ends the demo.\n"
                )
                kept = 0
            if status["processed"] > kept:
                kept = status["processed"]
                if kept == 1 or kept == until_kept:
                    _say(f"    {kept} kept and published after {time.monotonic() - began:.1f} s\n")
            if until_kept is not None and kept >= until_kept:
                stop.set()
                return
        await asyncio.sleep(0.2)


def _read_status(url: str) -> dict[str, int] | None:
    """What the service says of itself; None as long as it does not answer."""
    try:
        with urllib.request.urlopen(f"{url}/status", timeout=2) as answer:  # noqa: S310  Our own loopback address.
            status: dict[str, int] = json.load(answer)
            return status
    except (OSError, ValueError):
        return None


def _own_environment() -> dict[str, str]:
    """The environment without settings of a real service, which have no business in a demo."""
    return {
        name: os.environ[name]
        for name in ("HOME", "LANG", "PATH", "PYTHONPATH", "TERM", "TMPDIR")
        if name in os.environ
    }


def _key_of(folder: Path) -> str:
    """The key of this archive's tokens, made when there is none yet."""
    file = folder / _KEY
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(base64.b64encode(secrets.token_bytes(32)).decode())
    return file.read_text()


def _forget_last_time(folder: Path) -> None:
    """Remove what an earlier demo left, and only that: a folder that we did not make is somebody's archive."""
    mark = folder / _MARK
    if folder.exists() and any(folder.iterdir()) and not mark.exists():
        raise SystemExit(f"{folder} holds something that is not of an earlier demo: name another one with --dir.")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    mark.touch()


def _standin_port_of(folder: Path) -> int:
    """The stand-in's port, that of the last time if nobody has it."""
    file = folder / _STANDIN_PORT
    port = _free_port(int(file.read_text()) if file.exists() else 0)
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(str(port))
    return port


def _free_port(wanted: int) -> int:
    """The wanted port if nobody has it, else any free one."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return int(probe.getsockname()[1])
    raise SystemExit("There is no free port on 127.0.0.1.")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
