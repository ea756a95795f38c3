"""Cuts a stretch out of a film without touching a packet: ffmpeg copies those between two bounds and drops the rest.

Bounds lie between the decoding times of two neighbouring packets of a track, so that each packet belongs to exactly one
stretch whatever the rounding; ffmpeg's own ``-ss`` and ``-to`` lose packets of one track or have them twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vodkeep.child import run_child
from vodkeep.errors import DiskFull, TransientError

Kind = Literal["video", "audio"]

# What is read beside the stretch, so that no packet of a track that runs ahead or behind is missed.
_MARGIN_S = 10.0
# A disk that is slower than this is broken.
_SLOWEST_BYTES_S = 1_000_000
_LEAST_DEADLINE_S = 600.0
_STREAMS: Mapping[Kind, str] = {"video": "v", "audio": "a"}


@dataclass(frozen=True, slots=True)
class Bounds:
    """Between which decoding times the packets of a track are copied, in seconds of the film; None: to its edge."""

    kind: Kind
    start_s: float | None
    end_s: float | None


async def cut_film(
    ffmpeg: str, video: Path, target: Path, bounds: Sequence[Bounds], *, begins_s: float, size_bytes: int
) -> None:
    """Write the packets within ``bounds`` of ``video``, one for each track that is wanted, as the MP4 ``target``.

    ``begins_s`` is the moment of the film that becomes 0, ``size_bytes`` about what has to be written. The same film
    and the same ffmpeg give the same bytes. Raises `ChildTimeout`, `DiskFull`, `PermanentError` (``tool_missing``) and
    `TransientError` (``split_failed``).
    """
    starts = [bound.start_s for bound in bounds if bound.start_s is not None]
    ends = [bound.end_s for bound in bounds if bound.end_s is not None]
    result = await run_child(
        [
            ffmpeg,
            *("-hide_banner", "-nostdin", "-nostats", "-loglevel", "error", "-y"),
            # Times stay those of the film until the very end, and edits of the film are applied to none of them.
            *("-copyts", "-advanced_editlist", "0"),
            *(("-ss", f"{max(0.0, min(starts) - _MARGIN_S):.6f}") if starts else ()),
            *(("-to", f"{max(ends) + _MARGIN_S:.6f}") if ends else ()),
            *("-i", str(video), "-map_chapters", "-1", "-map_metadata", "-1"),
            *(word for bound in bounds for word in _stream(bound)),
            # Nothing is left out for standing before a key frame or before the point that was sought.
            *("-c", "copy", "-copyinkf", "-copypriorss", "1"),
            *("-fflags", "+bitexact", "-output_ts_offset", f"{-begins_s:.6f}"),
            *("-f", "mp4", str(target)),
        ],
        deadline_s=max(_LEAST_DEADLINE_S, size_bytes / _SLOWEST_BYTES_S),
    )
    if result.returncode != 0:
        if "No space left on device" in result.stderr:
            raise DiskFull(f"No space is left on the disk of {target}.", remedy="Free some space.")
        reason = (result.stderr.strip().splitlines() or ["it gave no reason"])[-1]
        raise TransientError(f"ffmpeg could not cut the video: {reason[:300]}", code="split_failed")


def _stream(bound: Bounds) -> tuple[str, ...]:
    letter = _STREAMS[bound.kind]
    outside = []
    if bound.start_s is not None:
        outside.append(f"lt(dts*tb\\,{bound.start_s:.9f})")
    if bound.end_s is not None:
        outside.append(f"gte(dts*tb\\,{bound.end_s:.9f})")
    # The filter can also damage packets, which is what it was made for; by amount=0 it damages none.
    drop = (f"-bsf:{letter}", f"noise=amount=0:drop={'+'.join(outside)}") if outside else ()
    return ("-map", f"0:{letter}:0", *drop)
