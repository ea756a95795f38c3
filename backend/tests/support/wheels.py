"""Packages called yt-dlp, for tests of installing one; pip and uv are told to find nothing else."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from zipfile import ZipFile

import pytest
import yt_dlp

INFO = {"url": "https://edge/index.m3u8", "uploader_id": "someone", "title": "A title", "format_id": "chunked"}


def ytdlp_wheel(folder: Path, version: str, *, code: str = "") -> Path:
    """A wheel of a yt-dlp that says its version and describes every VOD; ``code`` runs before it does either."""
    body = (
        "import json, sys\n"
        f"{code}\n"
        "def main():\n"
        f"    print({version!r} if '--version' in sys.argv else {json.dumps(INFO)!r})\n"
        "    return 0\n"
    )
    return _wheel(folder, version, {"yt_dlp/__init__.py": body})


def renamed_ytdlp_wheel(folder: Path, version: str) -> Path:
    """The installed yt-dlp under another version, as a wheel."""
    (source,) = map(Path, yt_dlp.__path__)
    files = {str(Path("yt_dlp") / path.relative_to(source)): path.read_text("utf-8") for path in source.rglob("*.py")}
    files["yt_dlp/version.py"] = re.sub(
        r"__version__ = '[^']*'", f"__version__ = {version!r}", files["yt_dlp/version.py"]
    )
    return _wheel(folder, version, files)


def _wheel(folder: Path, version: str, files: Mapping[str, str]) -> Path:
    wheel = folder / f"yt_dlp-{version}-py3-none-any.whl"
    meta = f"yt_dlp-{version}.dist-info"
    about = {
        f"{meta}/METADATA": f"Metadata-Version: 2.1\nName: yt-dlp\nVersion: {version}\n",
        f"{meta}/WHEEL": "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{meta}/RECORD": "",
    }
    with ZipFile(wheel, "w") as archive:
        for name, text in {**files, **about}.items():
            archive.writestr(name, text)
    return wheel


def installer_env(folder: Path) -> dict[str, str]:
    """Variables with which pip and uv install from ``folder`` only."""
    return {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(folder),
        "UV_NO_CONFIG": "1",
        "UV_NO_INDEX": "1",
        "UV_FIND_LINKS": str(folder),
    }


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that this process and its children install from."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name, value in installer_env(folder).items():
        monkeypatch.setenv(name, value)
    return folder
