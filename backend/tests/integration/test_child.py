"""Child programs, with real children."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from vodkeep.child import ChildTimeout, run_child
from vodkeep.errors import PermanentError, TransientError

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def is_alive(pid: int) -> bool:
    try:
        # A zombie has ended; only its parent has not looked yet.
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


async def wait_until_dead(pid: int) -> None:
    with anyio.fail_after(60):
        while is_alive(pid):
            await anyio.lowlevel.checkpoint()


async def test_both_pipes_are_read_however_much_comes() -> None:
    result = await run_child(
        python("import sys; sys.stdout.write('o' * 300_000); sys.stderr.write('e' * 300_000); sys.exit(3)"),
        deadline_s=30,
    )
    assert result.returncode == 3
    assert len(result.stdout) == 300_000
    assert result.stderr == "e" * 65_536


async def test_lines_are_handed_over_whole() -> None:
    lines: list[str] = []
    await run_child(
        python("import sys; [sys.stdout.write(f'{n}\\r\\n') or sys.stdout.flush() for n in range(3)]"),
        deadline_s=30,
        on_line=lines.append,
    )
    assert lines == ["0", "1", "2"]


async def test_a_program_past_its_deadline_is_ended_with_its_children(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    code = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(note)!r}, 'w').write(str(child.pid))\n"
        "time.sleep(600)\n"
    )
    with pytest.raises(ChildTimeout, match="did not finish within 6 s"):
        await run_child(python(code), deadline_s=6)
    await wait_until_dead(int(note.read_text()))


async def test_a_silent_program_is_ended() -> None:
    with pytest.raises(ChildTimeout, match=r"said nothing for 0\.5 s"):
        await run_child(python("import time; print('hello', flush=True); time.sleep(600)"), deadline_s=60, stall_s=0.5)


async def test_a_talkative_program_is_left_alone() -> None:
    code = "import sys, time\nfor n in range(8):\n    print(n, flush=True)\n    time.sleep(0.1)"
    result = await run_child(python(code), deadline_s=60, stall_s=5)
    assert result.stdout.split() == [b"0", b"1", b"2", b"3", b"4", b"5", b"6", b"7"]


async def test_cancelling_ends_the_program(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    code = f"import os, time; open({str(note)!r}, 'w').write(str(os.getpid())); print(1, flush=True); time.sleep(600)"
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(
                lambda: run_child(python(code), deadline_s=None, on_line=lambda _: tasks.cancel_scope.cancel())
            )
    assert not is_alive(int(note.read_text()))


async def test_cancelling_while_it_starts_leaves_no_process() -> None:
    children = Path(f"/proc/self/task/{threading.get_native_id()}/children")
    for turns in range(12):
        # However many turns of the event loop the start takes, one of these falls into each.
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: run_child(["sleep", "600"], deadline_s=None))
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        assert children.read_text() == ""


async def test_a_missing_program_is_named() -> None:
    with pytest.raises(PermanentError, match="'/nonexistent/tool' cannot be started") as caught:
        await run_child(["/nonexistent/tool"], deadline_s=5)
    assert caught.value.code == "tool_missing"


async def test_a_program_that_floods_us_is_ended() -> None:
    code = "import sys\nwhile True:\n    sys.stdout.write('x' * 1_000_000)"
    with pytest.raises(TransientError, match="wrote more than"):
        await run_child(python(code), deadline_s=60)


def test_a_child_does_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    code = (
        "import anyio, sys\n"
        "from vodkeep.child import run_child\n"
        f"inner = \"import os, time; open({str(note)!r}, 'w').write(str(os.getpid())); \"\n"
        "inner += 'print(1, flush=True); time.sleep(600)'\n"
        "anyio.run(lambda: run_child([sys.executable, '-c', inner], deadline_s=None, "
        "on_line=lambda line: print(line, flush=True)))\n"
    )
    parent = subprocess.Popen(
        python(code), stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"1\n"
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    anyio.run(wait_until_dead, int(note.read_text()))


def test_a_child_whose_parent_dies_before_it_is_bound_to_it_never_becomes_the_program(tmp_path: Path) -> None:
    setpriv = shutil.which("setpriv")
    assert setpriv is not None
    pid, gate, ran = (tmp_path / name for name in ("pid", "gate", "ran"))
    os.mkfifo(gate)
    # In its place one that waits at a gate, which the test opens once the parent is dead.
    slow = tmp_path / "bin" / "setpriv"
    slow.parent.mkdir()
    slow.write_text(f'#!/bin/sh\necho $$ > {pid}.new && mv {pid}.new {pid}\nread _ < {gate}\nexec {setpriv} "$@"\n')
    slow.chmod(0o755)
    code = (
        "import anyio\n"
        "from vodkeep.child import run_child\n"
        f"anyio.run(lambda: run_child(['touch', {str(ran)!r}], deadline_s=None))\n"
    )
    path = f"{slow.parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(python(code), env=environment) as parent:
        while not pid.exists():
            assert parent.poll() is None
        parent.kill()
    with gate.open("w") as opened:
        opened.write("go\n")
    anyio.run(wait_until_dead, int(pid.read_text()))
    assert not ran.exists()


async def test_a_program_keeps_its_own_exit_code_and_words() -> None:
    result = await run_child(["sh", "-c", 'echo "$0 $1" >&2; exit 127', "-n", "two  words"], deadline_s=30)
    assert (result.returncode, result.stderr) == (127, "-n two  words\n")


async def test_a_program_ends_by_the_signal_it_got() -> None:
    result = await run_child(["sh", "-c", "kill -TERM $$"], deadline_s=30)
    assert result.returncode == -signal.SIGTERM
