"""End together with the process that started us, even if it was killed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

POLL_S = 0.5


@contextmanager
def watch_parent(pid: int | None, gone: Callable[[], None]) -> Iterator[None]:
    """Call ``gone`` on the running loop when process ``pid`` has ended (at once if it already has).

    On Linux a pidfd tells without polling; elsewhere the process is looked for twice a second.
    """
    if pid is None:
        yield
        return
    loop = asyncio.get_running_loop()
    open_pidfd = getattr(os, "pidfd_open", None)
    if open_pidfd is None:
        poll = loop.create_task(_poll(pid, gone))
        try:
            yield
        finally:
            poll.cancel()
        return
    try:
        descriptor = open_pidfd(pid)
    except ProcessLookupError:
        gone()
        yield
        return

    def ended() -> None:
        # The descriptor stays readable for ever, so once is enough.
        loop.remove_reader(descriptor)
        gone()

    loop.add_reader(descriptor, ended)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def _poll(pid: int, gone: Callable[[], None]) -> None:
    while True:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            gone()
            return
        except PermissionError:
            # It lives and belongs to somebody else.
            pass
        await asyncio.sleep(POLL_S)
