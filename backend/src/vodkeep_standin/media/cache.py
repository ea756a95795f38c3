"""The media cache: built once, shared by every process on the machine."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from vodkeep_standin.media.build import build_media
from vodkeep_standin.media.model import Media
from vodkeep_standin.media.recipe import Recipe

MANIFEST = "media.json"


def default_cache_dir() -> Path:
    """``$XDG_CACHE_HOME/vodkeep-standin``, or below ``~/.cache``."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "vodkeep-standin"


class MediaCache:
    """Media by recipe. Methods block: they read files and may run ffmpeg for seconds."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or default_cache_dir()
        self._known: dict[str, Media] = {}

    def get(self, recipe: Recipe) -> Media | None:
        """The media if this object has seen it built already; never blocks."""
        return self._known.get(recipe.key)

    def ensure(self, recipe: Recipe) -> Media:
        """The media, built now if nobody has. Raises ``MediaBuildError``."""
        key = recipe.key
        if key not in self._known:
            self._known[key] = self._load(key) or self._build(recipe)
        return self._known[key]

    def ensure_all(self, recipes: Iterable[Recipe]) -> None:
        """Build whatever is missing, several at once: making the test picture keeps one core per ffmpeg busy."""
        with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as builders:
            # Going through the results is what raises a builder's error here.
            list(builders.map(self.ensure, recipes))

    def _load(self, key: str) -> Media | None:
        folder = self.root / key
        try:
            manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Media)
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        return msgspec.structs.replace(manifest, folder=str(folder))

    def _build(self, recipe: Recipe) -> Media:
        key = recipe.key
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / f"{key}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            # Another process may have built it while we waited for the lock.
            if (media := self._load(key)) is not None:
                return media
            building = self.root / f"{key}.building"
            # Whoever left these held the lock, so it is gone: nobody writes here any more.
            shutil.rmtree(building, ignore_errors=True)
            shutil.rmtree(self.root / key, ignore_errors=True)
            building.mkdir()
            media = build_media(recipe, building)
            (building / MANIFEST).write_bytes(msgspec.json.encode(media))
            building.rename(self.root / key)
        return msgspec.structs.replace(media, folder=str(self.root / key))
