"""The recorder of one process: who is live, the connections, and the writing, put together and taken down in order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import anyio

from vodkeep.chat.connections import Connections
from vodkeep.chat.recording import Recording
from vodkeep.clock import Clock
from vodkeep.errors import VodkeepError
from vodkeep.pipeline.live_watch import LiveWatch
from vodkeep.pipeline.recorder_note import LoginTrouble, RecorderNote, RecorderNotes
from vodkeep.pipeline.recorder_plan import Disabled
from vodkeep.telemetry.log import Logger

# Before a recorder that could not begin is made anew.
_AGAIN_S = 15.0


@dataclass(frozen=True, slots=True)
class ChatRecorder:
    """Records chat; :meth:`run` once, for as long as the process lives."""

    recording: Recording
    connections: Connections
    watch: LiveWatch
    notes: RecorderNotes

    async def run(self) -> None:
        """Record until canceled; what has come by then is stored at the end, which takes some seconds at most."""
        stop = anyio.Event()
        failures: list[Exception] = []

        async def record() -> None:
            # Canceled from outside, the writing would end before what is still to be written.
            with anyio.CancelScope(shield=True):
                try:
                    await self._record(stop)
                except Exception as error:  # noqa: BLE001 - raised again below, not as one of a group
                    failures.append(error)
            tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(record)
            try:
                await anyio.sleep_forever()
            finally:
                stop.set()
        if failures:
            raise failures[0]

    async def _record(self, stop: anyio.Event) -> None:
        async with self.recording, anyio.create_task_group() as tasks:
            tasks.start_soon(self.connections.run)
            tasks.start_soon(self.watch.run)
            tasks.start_soon(self.notes.run)
            await stop.wait()
            tasks.cancel_scope.cancel()


class KeptRecorder:
    """Has a recorder at all times: when one cannot begin or ends in a bug, another takes its place after a while."""

    def __init__(self, build: Callable[[], ChatRecorder], clock: Clock, log: Logger) -> None:
        """``build`` makes a recorder that nothing of an earlier one is part of."""
        self._build = build
        self._clock = clock
        self._log = log

    async def run(self) -> None:
        """Record until canceled."""
        while True:
            try:
                await self._build().run()
            except VodkeepError as error:
                self._log.error("chat cannot be recorded", code=error.code, error=str(error), remedy=error.remedy)
            except Exception:  # noqa: BLE001 - the recorder ends here, the rest of the service does not
                self._log.exception("chat recorder ended in a bug")
            await self._clock.sleep(_AGAIN_S)


@dataclass(frozen=True, slots=True)
class NoRecorder:
    """Says that chat is not recorded, and why, instead of recording it."""

    why: Disabled
    notes: RecorderNotes
    log: Logger

    async def run(self) -> None:
        """Say it once in the log, and all the time in ``/status``."""
        self.log.info("chat recorder disabled", reason=self.why.reason, remedy=self.why.remedy)
        await self.notes.run()


def note_of(connections: Connections, recording: Recording) -> RecorderNote:
    """How the recorder is doing at this moment."""
    states, written = connections.states(), recording.state()
    failure = connections.login_failure
    refused = {channel: reason for state in states for channel, reason in state.refused.items()}
    return RecorderNote(
        enabled=True,
        connections=sum(state.connected for state in states),
        channels=sum(len(state.channels) for state in states),
        joined=sum(len(state.joined) for state in states),
        refused=RecorderNote.shortened(refused),
        login_failure=None
        if failure is None
        else LoginTrouble(failure.account, failure.reason, failure.since, failure.retry_at),
        connection_failure=next((state.failure for state in states if state.failure is not None), None),
        spool_bytes=written.spool_bytes,
        problem=written.disk_problem or written.database_problem,
    )
