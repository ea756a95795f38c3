"""What Twitch gets wrong is not taken for something else, and harms nothing beside it."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from datetime import timedelta

import pytest

from support.home import CHANNEL, HomeOf, check_kept
from support.service import wait_until
from vodkeep_standin.faults.gql_errors import GqlErrors
from vodkeep_standin.faults.helix_body import HelixBody
from vodkeep_standin.scenario import ids
from vodkeep_standin.scenario.builtin import scenario_for_tests

FORBIDDEN = set('<>:"/\\|?*')
LONGEST_NAME_BYTES = 200


@pytest.mark.parametrize("data_missing", [False, True], ids=["null video", "no data"])
def test_errors_of_gql_are_no_deletion(home_of: HomeOf, data_missing: bool) -> None:
    home = home_of(ids.PLAIN)
    home.standin.faults.add(GqlErrors(data_missing=data_missing), path="/gql")
    service = home.start(CIRCUIT_FAILURE_THRESHOLD="1000")
    for attempt in (1, 2):
        failed = service.wait_for("download failed", vod_id=ids.PLAIN, count=attempt)
        assert failed["code"] == "server_error", failed
    assert service.lines("vod parked") == []
    home.standin.faults.clear()
    service.wait_for("vod processed", vod_id=ids.PLAIN)
    check_kept(home, ids.PLAIN)


def test_bodies_of_helix_that_make_no_sense(home_of: HomeOf) -> None:
    plain = scenario_for_tests().videos[ids.PLAIN]
    newer = replace(plain, id="2600000101", title="The bent one", created_at=plain.created_at + timedelta(hours=5))
    home = home_of(ids.PLAIN, newer)
    faults = home.standin.faults
    nulls = faults.add(HelixBody("nulls", entry=0), path="/helix/videos")
    service = home.start()
    # The good one is kept although the entry before it cannot be used.
    service.wait_for("vod processed", vod_id=ids.PLAIN)
    check_kept(home, ids.PLAIN)
    faults.remove(nulls)
    service.wait_for("vod processed", vod_id=newer.id)
    check_kept(home, newer.id)

    for body in (HelixBody("wrong_types"), HelixBody("missing_fields"), HelixBody("data_null")):
        bent, mark = faults.add(body, path="/helix/videos"), service.mark()
        service.wait_for(lambda line: line["level"] == "warning", after=mark)
        assert faults.applied(bent) >= 1
        faults.remove(bent)
        assert service.get("/healthz")[0] == 200
    # Asked once more, Twitch makes sense again.
    once = [faults.add(HelixBody(form), path="/helix/videos", count=1) for form in ("not_json", "array", "same_cursor")]
    wait_until(lambda: all(faults.applied(rule) for rule in once), "every body is met")
    faults.add(HelixBody("unknown_fields"), path="/helix/*")
    last = replace(plain, id="2600000102", title="With new fields", created_at=plain.created_at + timedelta(hours=9))
    home.standin.put_video(last)
    service.wait_for("vod processed", vod_id=last.id)
    rows = {row["twitch_vod_id"]: row["title"] for row in home.sql("SELECT twitch_vod_id, title FROM vods")}
    assert rows == {ids.PLAIN: plain.title, newer.id: newer.title, last.id: last.title}
    assert service.lines("discovery ended in a bug") == []
    assert "Traceback" not in service.output()


def test_hostile_titles_stay_in_their_folder(home_of: HomeOf) -> None:
    home = home_of(*ids.HOSTILE)
    service = home.start(MAX_CONCURRENT_DOWNLOADS="2")
    for video_id in ids.HOSTILE:
        service.wait_for("vod processed", vod_id=video_id)
    for video_id in ids.HOSTILE:
        manifest = check_kept(home, video_id)
        title = home.standin.scenario.videos[video_id].title
        assert manifest["title"].strip() == title.strip()
        name = home.folder(video_id).name
        assert len(name.encode()) <= LONGEST_NAME_BYTES
        assert not FORBIDDEN & set(name), name
        assert not [c for c in name if unicodedata.category(c) in ("Cc", "Zl", "Zp", "Cs")], ascii(name)
        assert not [c for c in name if unicodedata.bidirectional(c) in ("LRE", "RLE", "LRO", "RLO", "PDF")], ascii(name)
        assert name == name.strip(" .")
    assert len(home.folders()) == len(ids.HOSTILE)
    # Nothing lies anywhere else.
    assert {path.name for path in home.root.iterdir()} == {"data"}
    wait_until(lambda: home.leftovers() == [], "the work folder is empty")
    inside = {path.name for path in home.data_dir.iterdir() if not path.name.startswith(("vodkeep.db", "chat.db"))}
    assert inside - {".emotes"} == {CHANNEL, ".work", ".vodkeep-archive"}
    # The names reach the page and the addresses of the files unharmed.
    for video_id in ids.HOSTILE:
        status, body, _ = service.get(service.vod(video_id)["media"]["manifest"])
        assert status == 200
        assert video_id.encode() in body
