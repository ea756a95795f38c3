"""Serves the broadcast on loopback, in several profiles at once, as cheaply as can be.

nginx does it where Debian's package is installed: it hands files to the kernel (``sendfile``) and costs a fraction of
what the fastest contender does. The delay is nginx's as well: its Lua module waits before a request is answered,
without holding a thread or touching the body. That distorts least: a proxy would copy every byte once more, and
delaying packets in the kernel (netem) delays the setting up of connections and the growing of TCP's windows too,
which is not what the profile says, and needs root. nginx's own ``limit_rate`` is the cap; as it allows the first
second's worth at once, the body is handed over in small pieces (``sendfile_max_chunk``), after each of which nginx
waits for as long as the piece takes.

Without nginx a small server of our own stands in, in a process of its own: see ``plain_server.py``.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_MODULES = (Path("/usr/lib/nginx/modules"), Path("/usr/share/nginx/modules"))
_LUA_FILES = ("ndk_http_module.so", "ngx_http_lua_module.so")
_LUA_PATH = "/usr/share/lua/5.1/?.lua;;"
_START_S = 10.0


@dataclass(frozen=True, slots=True)
class Profile:
    """What kind of line the server pretends to be at the end of."""

    name: str
    delay_s: float  # added to every request
    rate_bytes_s: int | None  # cap of each connection; None for none
    words: str


PROFILES = (
    Profile("raw", 0.0, None, "raw loopback"),
    Profile("delay", 0.03, None, "+30 ms per request"),
    Profile("capped", 0.03, 5_000_000, "+30 ms per request, 5 MB/s per connection"),
)


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs."""

    words: str  # what it is, with its version
    addresses: Mapping[str, str]  # profile name -> address of the folder, with a slash at its end
    pids: Sequence[int]

    def cpu_s(self) -> float:
        """CPU seconds used so far."""
        return sum(_cpu_s(pid) for pid in self.pids)


@contextmanager
def serving(folder: Path, work: Path, profiles: Sequence[Profile], *, own: bool = False) -> Iterator[Server]:
    """Serve ``folder`` while the block runs; ``work`` is for the server's own files."""
    ports = dict(zip([profile.name for profile in profiles], _free_ports(len(profiles)), strict=True))
    program = None if own else _find_nginx()
    modules = _find_lua_modules()
    if program and (modules or not any(profile.delay_s for profile in profiles)):
        config = work / "nginx.conf"
        config.write_text(_nginx_config(folder, work, profiles, ports, modules), "utf-8")
        command = [program, "-p", str(work), "-c", str(config), "-e", str(work / "nginx.log")]
        words = _nginx_version(program)
    else:
        command = [sys.executable, str(Path(__file__).with_name("plain_server.py")), str(folder)]
        for profile in profiles:
            command.append(f"{ports[profile.name]}:{profile.delay_s}:{profile.rate_bytes_s or 0}")
        words = "our own plain server (Python, sendfile), because " + (
            "it was asked for" if own else "nginx or its Lua module is not installed"
        )
    with (work / "server.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        for port in ports.values():
            _wait_until_it_listens(port, process, work / "server.log")
        pids = [process.pid, *_children(process.pid)]
        yield Server(words, {name: f"http://127.0.0.1:{port}/" for name, port in ports.items()}, pids)
    finally:
        process.terminate()
        process.wait(timeout=10)


def _nginx_config(
    folder: Path, work: Path, profiles: Sequence[Profile], ports: Mapping[str, int], modules: Sequence[Path]
) -> str:
    servers = []
    for profile in profiles:
        directives = []
        if profile.delay_s:
            directives.append(f"access_by_lua_block {{ ngx.sleep({profile.delay_s}) }}")
        if profile.rate_bytes_s:
            directives += [f"limit_rate {profile.rate_bytes_s};", "sendfile_max_chunk 128k;"]
        servers.append(
            f"  server {{\n    listen 127.0.0.1:{ports[profile.name]} backlog=256;\n    root {folder};\n"
            f"    location / {{ {' '.join(directives)} }}\n  }}\n"
        )
    return (
        "".join(f"load_module {path};\n" for path in modules)
        # As root its worker would be another user, who may not look into our cache folder.
        + ("user root;\n" if os.geteuid() == 0 else "")
        + f"daemon off;\nworker_processes 1;\npid {work}/nginx.pid;\nerror_log {work}/nginx.log warn;\n"
        + "events { worker_connections 1024; }\n"
        + "http {\n  access_log off;\n  sendfile on;\n  tcp_nopush on;\n"
        # No contender is to be slowed down or sped up by connections that nginx closes early.
        + "  keepalive_timeout 65;\n  keepalive_requests 1000000;\n"
        + "  types { application/vnd.apple.mpegurl m3u8; video/mp2t ts; }\n"
        + "".join(
            f"  {kind}_temp_path {work}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        + (f'  lua_package_path "{_LUA_PATH}";\n' if modules else "")
        + "".join(servers)
        + "}\n"
    )


def _find_nginx() -> str | None:
    # Debian has it where only root looks by default.
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


def _find_lua_modules() -> list[Path]:
    for folder in _MODULES:
        paths = [folder / name for name in _LUA_FILES]
        if all(path.exists() for path in paths):
            return paths
    return []


def _nginx_version(program: str) -> str:
    told = subprocess.run([program, "-v"], capture_output=True, text=True, check=False).stderr
    return told.strip().rpartition(" ")[2].replace("nginx/", "nginx ") + " (one worker, sendfile)"


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _wait_until_it_listens(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=2):
                return
        except OSError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"The server did not start: {log.read_text()[-500:]}") from error
            time.sleep(0.02)


def _children(parent: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(") ")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent:
            found.append(int(path.parent.name))
    return found


def _cpu_s(pid: int) -> float:
    """What a process's threads have used so far, from the scheduler's own count in nanoseconds."""
    total = 0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        total += int(path.read_text().split()[0])
    return total / 1e9
