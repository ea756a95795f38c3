"""Moves the video of an item into the trash, back, or out of the world; never anything else.

Whatever names the database holds, only one thing can be moved: the regular file that the folder's own manifest names as
its video, in a folder whose manifest names this broadcast. Every folder on the way is opened from the one above it and
never through a symbolic link, so that nobody can bend the path between a look and a rename. Everything else in the
folder stays: manifest, chat, picture, and what people have put there.

The manifest forgets the video before it moves, and names it again after it came back: whenever that is cut off, no
folder promises a file that it does not have.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from vodkeep.disk import FILE_MODE, FOLDER_MODE, disk_errors
from vodkeep.keep.manifest import (
    MANIFEST_NAME,
    FileEntry,
    LetGoEntry,
    Manifest,
    ManifestError,
    read_manifest,
    write_manifest,
)

TRASH_NAME = ".trash"

_NEW = f"{MANIFEST_NAME}.new"
_LARGEST_MANIFEST = 64 * 1024 * 1024
_PLAIN_ID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


class Refused(Exception):
    """The video is not touched; the message says why, as a sentence."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an item's video belongs."""

    root: Path  # the library; may be reached through a link, what is in it not
    path: PurePosixPath  # of the video, relative to it
    video_id: str


@dataclass(frozen=True, slots=True)
class Video:
    """A video that can be moved."""

    manifest: Manifest
    file: FileEntry


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where a video is, that was being moved when the process died."""

    in_folder: bool
    in_trash: bool


def place_of(root: Path, path: str, video_id: str) -> Place:
    """The place that a row names; raises `Refused` for one that cannot be an item's."""
    named = PurePosixPath(path)
    if _PLAIN_ID.fullmatch(video_id) is None:
        raise Refused("Its id is not one of Twitch's.")
    if named.is_absolute() or ".." in named.parts or "\0" in path or len(named.parts) < 2:
        raise Refused("The database names a place outside the library.")
    if named.parts[0].startswith("."):
        raise Refused("The database names a place among the service's own folders.")
    return Place(root, named, video_id)


def new_trash_folder(video_id: str) -> PurePosixPath:
    """A folder in the trash that is nobody's yet, relative to the library."""
    return PurePosixPath(TRASH_NAME, f"{video_id}-{secrets.token_hex(6)}")


def examine(place: Place) -> Video:
    """Whether the video could be moved at this moment; changes nothing. Blocking; raises `Refused`."""
    with _told(), _open_top(place.root) as top, _open_folder(top, place.path.parent) as folder:
        _check_trash(top)
        return _look(place, top, folder)


def move_to_trash(
    place: Place, trash: PurePosixPath, describe: Callable[[FileEntry], LetGoEntry], *, confirm: Callable[[Video], None]
) -> None:
    """Move the video into the trash, with one rename.

    ``confirm`` is called when nothing is left to do but that, and what it raises leaves everything as it is. Blocking;
    raises `Refused`, and the errors of a full or unwritable disk.
    """
    with (
        disk_errors(place.root),
        _told(),
        _open_top(place.root) as top,
        _open_folder(top, place.path.parent) as folder,
    ):
        fcntl.flock(folder, fcntl.LOCK_EX)
        video = _look(place, top, folder)
        _check_trash(top)
        confirm(video)
        with _make_folder(top, trash) as bin_:
            rest = tuple(entry for entry in video.manifest.files if entry.name != place.path.name)
            _save(folder, replace(video.manifest, files=rest, let_go=describe(video.file)))
            os.rename(place.path.name, place.path.name, src_dir_fd=folder, dst_dir_fd=bin_)
            os.fsync(bin_)
        os.fsync(folder)


def move_back(place: Place, trash: PurePosixPath, *, confirm: Callable[[], None]) -> None:
    """Move the video out of the trash into its folder, and let the manifest name it again; also what is left of that.

    ``confirm`` as in `move_to_trash`. Blocking; raises `Refused`, and the errors of a full or unwritable disk.
    """
    name = place.path.name
    with (
        disk_errors(place.root),
        _told(),
        _open_top(place.root) as top,
        _open_folder(top, place.path.parent) as folder,
    ):
        fcntl.flock(folder, fcntl.LOCK_EX)
        manifest = _manifest_of(place, folder)
        gone = manifest.let_go
        if gone is None or gone.trash != str(trash) or gone.file.name != name:
            raise Refused("The folder does not say that its video is in the trash; it was captured anew, probably.")
        is_back = _regular(folder, name) is not None
        with _open_folder(top, trash) as bin_:
            found = _regular(bin_, name)
            if not is_back:
                if found is None or found.st_size != gone.file.size_bytes:
                    raise Refused("The trash does not hold the video as it was.")
                confirm()
                os.rename(name, name, src_dir_fd=bin_, dst_dir_fd=folder)
                os.fsync(folder)
            elif found is not None:
                raise Refused("The folder has a video already.")
            else:
                confirm()
        _save(folder, replace(manifest, files=(gone.file, *manifest.files), let_go=None))
        _drop_folder(top, trash)


def forget_move(place: Place, trash: PurePosixPath) -> None:
    """Let the manifest name a video again that never left, because its move was cut off. Blocking; raises `Refused`."""
    with disk_errors(place.root), _told(), _open_top(place.root) as top:
        _drop_folder(top, trash)
        with _open_folder(top, place.path.parent) as folder:
            fcntl.flock(folder, fcntl.LOCK_EX)
            manifest = _manifest_of(place, folder)
            gone = manifest.let_go
            if gone is not None and gone.trash == str(trash) and _regular(folder, gone.file.name) is not None:
                _save(folder, replace(manifest, files=(gone.file, *manifest.files), let_go=None))


def remove_for_good(place: Place, trash: PurePosixPath) -> bool:
    """Remove the video from the trash; whether its folder there went, too, which what others put there prevents.

    Doing it again is no error, nor that the item's folder is not there any more. Blocking; raises the errors of an
    unwritable disk, and `Refused` when the trash is not ours.
    """
    with disk_errors(place.root), _told(), _open_top(place.root) as top:
        with suppress(Refused), _told(), _open_folder(top, place.path.parent) as folder:
            fcntl.flock(folder, fcntl.LOCK_EX)
            manifest = _manifest_of(place, folder)
            gone = manifest.let_go
            if gone is not None and gone.trash == str(trash):
                _save(folder, replace(manifest, let_go=replace(gone, trash=None)))
        try:
            with _open_folder(top, trash) as bin_:
                if _regular(bin_, place.path.name) is not None:
                    os.unlink(place.path.name, dir_fd=bin_)
                os.fsync(bin_)
        except FileNotFoundError:
            return True
        return _drop_folder(top, trash)


def read_let_go(place: Place) -> LetGoEntry | None:
    """What the folder says of its video in the trash; None when none is there. Blocking; raises `Refused`."""
    with _told(), _open_top(place.root) as top, _open_folder(top, place.path.parent) as folder:
        gone = _manifest_of(place, folder).let_go
    if gone is None or gone.trash is None or gone.file.name != place.path.name:
        return None
    # A folder from elsewhere can name any place.
    named = PurePosixPath(gone.trash).parts
    return gone if len(named) == 2 and named[0] == TRASH_NAME and named[1] != ".." else None


def find(place: Place, trash: PurePosixPath) -> Whereabouts:
    """Where the video is at this moment. Blocking; raises `OSError` when that cannot be told."""
    with _open_top(place.root) as top:
        return Whereabouts(
            in_folder=_has(top, place.path.parent, place.path.name), in_trash=_has(top, trash, place.path.name)
        )


# --- how it is done --------------------------------------------------------------------------------------------------


@contextmanager
def _told() -> Iterator[None]:
    """Turn what a walk can meet into `Refused`; what a disk does passes."""
    try:
        yield
    except OSError as error:
        if error.errno in _NOT_THERE:
            raise Refused(f"A folder or file on the way is missing, or a link ({error.strerror}).") from error
        if error.errno == errno.EXDEV:
            raise Refused("It lies on another file system than the trash.") from error
        raise


@contextmanager
def _open_top(root: Path) -> Iterator[int]:
    descriptor = os.open(root, _FOLDER)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _open_folder(top: int, path: PurePosixPath) -> Iterator[int]:
    """Open a folder step by step, no step through a link."""
    descriptor = os.dup(top)
    try:
        for part in path.parts:
            following = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = following
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _make_folder(top: int, path: PurePosixPath) -> Iterator[int]:
    """Open a folder in the trash, made if need be."""
    for depth in range(1, len(path.parts) + 1):
        with _open_folder(top, PurePosixPath(*path.parts[: depth - 1])) as above, suppress(FileExistsError):
            os.mkdir(path.parts[depth - 1], FOLDER_MODE, dir_fd=above)
            os.fsync(above)
    with _open_folder(top, path) as descriptor:
        yield descriptor


def _drop_folder(top: int, path: PurePosixPath) -> bool:
    """Remove a folder of the trash if nothing is in it; whether it is gone."""
    try:
        with _open_folder(top, path.parent) as above:
            os.rmdir(path.name, dir_fd=above)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _check_trash(top: int) -> None:
    """Refuse a trash that is a link, a file, or on another file system."""
    try:
        found = os.stat(TRASH_NAME, dir_fd=top, follow_symlinks=False)
    except FileNotFoundError:
        if not os.access(".", os.W_OK | os.X_OK, dir_fd=top):
            raise Refused("The trash cannot be made: the library may not be written.") from None
        return
    if not stat.S_ISDIR(found.st_mode) or found.st_dev != os.fstat(top).st_dev:
        raise Refused(f"{TRASH_NAME} is no folder of the library's own file system.")
    if not os.access(TRASH_NAME, os.W_OK | os.X_OK, dir_fd=top):
        raise Refused(f"{TRASH_NAME} may not be written.")


def _look(place: Place, top: int, folder: int) -> Video:
    """The video in its open folder, if it is one that can be moved."""
    name = place.path.name
    manifest = _manifest_of(place, folder)
    if manifest.let_go is not None:
        raise Refused("Its video was let go already.")
    entry = manifest.file(name)
    if entry is None or name == MANIFEST_NAME:
        raise Refused(f"The manifest names no {name}.")
    found = _regular(folder, name)
    if found is None:
        raise Refused(f"{name} is missing, or no plain file.")
    if found.st_dev != os.fstat(top).st_dev:
        raise Refused("It lies on another file system than the trash.")
    if found.st_size != entry.size_bytes:
        raise Refused(f"{name} is not what the manifest says; `vodkeep verify {place.video_id}` tells more.")
    if not os.access(".", os.W_OK | os.X_OK, dir_fd=folder):
        raise Refused("Its folder may not be written.")
    new = _stat(folder, _NEW)
    if new is not None and not stat.S_ISREG(new.st_mode):
        raise Refused(f"{_NEW} in its folder is in the way.")
    return Video(manifest, entry)


def _manifest_of(place: Place, folder: int) -> Manifest:
    try:
        descriptor = os.open(MANIFEST_NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except PermissionError as error:
        raise Refused(f"{MANIFEST_NAME} may not be read.") from error
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_size > _LARGEST_MANIFEST:
            raise Refused(f"{MANIFEST_NAME} is no plain file.")
        body = file.read()
    try:
        manifest = read_manifest(body.decode("utf-8"))
    except (ManifestError, UnicodeDecodeError) as error:
        raise Refused(f"{MANIFEST_NAME} cannot be read.") from error
    if manifest.video_id != place.video_id:
        raise Refused(f"The folder is another broadcast's ({manifest.video_id[:64]}).")
    return manifest


def _save(folder: int, manifest: Manifest) -> None:
    """Replace the manifest, whole or not at all."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(_NEW, flags, FILE_MODE, dir_fd=folder), "w", encoding="utf-8") as file:
        file.write(write_manifest(manifest))
        file.flush()
        os.fchmod(file.fileno(), FILE_MODE)
        os.fsync(file.fileno())
    os.rename(_NEW, MANIFEST_NAME, src_dir_fd=folder, dst_dir_fd=folder)
    os.fsync(folder)


def _has(top: int, path: PurePosixPath, name: str) -> bool:
    try:
        with _open_folder(top, path) as folder:
            return _regular(folder, name) is not None
    except OSError as error:
        if error.errno in _NOT_THERE:
            return False
        raise


def _regular(folder: int, name: str) -> os.stat_result | None:
    found = _stat(folder, name)
    return found if found is not None and stat.S_ISREG(found.st_mode) else None


def _stat(folder: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
