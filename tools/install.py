"""Installs the locked packages and the project itself into the environment this file runs in.

``python tools/install.py run|dev`` installs; ``python tools/install.py uv ARGUMENTS`` runs uv with the settings
described here. Both are called by ``tools/bootstrap`` and ``make``, with the interpreter of ``.venv``.

uv does the work, because it is ten times faster than pip. It comes from PyPI as a locked wheel, installed by pip.
Where there is no such wheel (or with ``INSTALLER=pip``) pip installs the same locked files. Whoever has told pip
where packages come from (pip.conf or ``PIP_*``) has a reason, so uv is told the same.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BACKEND = ROOT / "backend"
REQUIREMENTS = BACKEND / "requirements"
UV = Path(sys.prefix) / "bin" / "uv"


def pip_settings(listing: str) -> dict[str, str]:
    """The settings that hold for ``pip install``, from the output of ``pip config list``.

    Each line reads ``section.key='value'``; of the sections, the environment wins over ``install`` and that over
    ``global``, as pip has it.
    """
    rank = {"global": 0, "install": 1, ":env:": 2}
    found: dict[str, tuple[int, str]] = {}
    for line in listing.splitlines():
        name, _, value = line.partition("=")
        section, _, key = name.partition(".")
        if section in rank and rank[section] >= found.get(key, (0, ""))[0]:
            found[key] = (rank[section], str(ast.literal_eval(value)))
    return {key: value for key, (_, value) in found.items()}


def uv_environment(pip: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """What uv must be told to behave as pip is set up; anything already said to uv itself stays.

    With several indexes pip takes the best version of any of them, uv that of the first index which knows the name.
    The locked hashes decide which file is right, so uv may search them all, as pip does.
    """
    told: dict[str, str] = {"UV_PYTHON_DOWNLOADS": "never", "UV_INDEX_STRATEGY": "unsafe-best-match"}
    if index := pip.get("index-url"):
        told["UV_DEFAULT_INDEX"] = index
    if extra := pip.get("extra-index-url", "").split():
        told["UV_INDEX"] = " ".join(extra)
    if links := pip.get("find-links", "").split():
        told["UV_FIND_LINKS"] = ",".join(links)
    if pip.get("no-index", "").lower() in {"1", "true", "yes", "on"}:
        told["UV_NO_INDEX"] = "1"
    if hosts := pip.get("trusted-host", "").split():
        told["UV_INSECURE_HOST"] = " ".join(hosts)
    if certificates := pip.get("cert"):
        told["SSL_CERT_FILE"] = certificates
    if proxy := pip.get("proxy"):
        told |= {"HTTPS_PROXY": proxy, "HTTP_PROXY": proxy}
    older_names = {"UV_DEFAULT_INDEX": "UV_INDEX_URL", "UV_INDEX": "UV_EXTRA_INDEX_URL"}
    return {k: v for k, v in told.items() if not environ.get(k) and not environ.get(older_names.get(k, k))}


def pip(*arguments: str | Path, quietly: bool = False) -> int:
    """Run pip; the exit code."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)]
    return subprocess.run(command, check=False, stderr=subprocess.DEVNULL if quietly else None).returncode


def uv(*arguments: str | Path) -> int:
    """Run uv as pip is set up, on the environment this file runs in; the exit code."""
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "list"],
        check=False,
        capture_output=True,
        text=True,
    ).stdout
    environ = {**os.environ, "VIRTUAL_ENV": sys.prefix, **uv_environment(pip_settings(listing), os.environ)}
    return subprocess.run([UV, *map(str, arguments)], check=False, env=environ).returncode


def install_uv() -> bool:
    """Whether uv is there in the locked version, installed if need be; without a wheel for this machine it is not."""
    wanted: list[str | Path] = ["--require-hashes", "--only-binary", ":all:", "-r", REQUIREMENTS / "bootstrap.txt"]
    return pip("install", "--quiet", *wanted, quietly=True) == 0


def install(profile: str, *, with_uv: bool) -> int:
    """Bring the environment to the locked state of the profile (``run`` or ``dev``); the exit code."""
    lock = REQUIREMENTS / f"{profile}.txt"
    project: list[str | Path] = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "-e", BACKEND]
    if with_uv:
        locked: list[str | Path] = ["--quiet", "--require-hashes", REQUIREMENTS / "bootstrap.txt", lock]
        # As pip does it: whoever keeps Python from writing compiled files would compile everything at every start.
        return uv("pip", "sync", "--compile-bytecode", *locked) or uv("pip", "install", *project)
    return pip("install", "--quiet", "--require-hashes", "-r", lock) or pip("install", *project)


def main(arguments: list[str]) -> int:
    """Install a profile, or pass a command on to uv; the exit code."""
    if arguments[:1] == ["uv"]:
        return uv(*arguments[1:])
    (profile,) = arguments
    with_uv = os.environ.get("INSTALLER", "uv") != "pip" and install_uv()
    sys.stderr.write(f"Installing the locked packages ({profile}) with {'uv' if with_uv else 'pip'}\n")
    code = install(profile, with_uv=with_uv)
    if code:
        sys.stderr.write("Installing the locked packages failed; the lines above say why. Run make again to go on.\n")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
