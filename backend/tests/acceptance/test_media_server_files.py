"""What a media server finds in the folder of a broadcast that was just kept."""

from __future__ import annotations

import json
from xml.etree import ElementTree as ET

from support.commands import vodkeep
from support.home import HomeOf
from vodkeep_standin.scenario import ids


def test_a_broadcast_comes_with_its_description_and_artwork(home_of: HomeOf) -> None:
    home = home_of(ids.PLAIN)
    assert home.archive(ids.PLAIN, MEDIA_SERVER_FILES="1").returncode == 0
    folder = home.folder(ids.PLAIN)
    assert ET.fromstring((folder / "video.nfo").read_bytes()).findtext("title") == home.manifest(ids.PLAIN)["title"]
    names = {entry["name"] for entry in home.manifest(ids.PLAIN)["files"]}
    assert {"video.nfo", "poster.jpg", "landscape.jpg"} <= names
    checked = vodkeep(home, "library", "check", "--json")
    assert (checked.returncode, json.loads(checked.stdout)["problems"]) == (0, [])
