from __future__ import annotations

import pytest

from vodkeep.capture.tool_messages import ToolVerdict, classify_tool_output

REPORT = (
    "; please report this issue on  https://github.com/yt-dlp/yt-dlp/issues?q= , filling out the appropriate issue "
    "template. Confirm you are on the latest version using  yt-dlp -U"
)


def given_up(reason: str) -> str:
    """What yt-dlp 2026.10.26 said with ``--abort-on-unavailable-fragments -N 2``."""
    block = f"ERROR: \n[download] Got error: {reason}. Giving up after 3 retries\n"
    return block + "ERROR: fragment 7 not found, unable to continue\n" + block


@pytest.mark.parametrize(
    ("stderr", "verdict"),
    [
        pytest.param("ERROR: [twitch:vod] 429503404: Video 429503404 does not exist", "does_not_exist", id="gone"),
        pytest.param(
            "ERROR: [twitch:vod] 1: You must be logged into an account that has access to this subscriber-only "
            "content. Use --cookies-from-browser or --cookies for the authentication.",
            "sub_only",
            id="subscribers only",
        ),
        pytest.param(
            "ERROR: [twitch:vod] 5: Unable to download JSON metadata: HTTP Error 503: Service Unavailable (caused by "
            "<HTTPError 503: Service Unavailable>)",
            "server_error",
            id="5xx",
        ),
        pytest.param(
            "ERROR: [twitch:vod] 5: Unable to download JSON metadata: HTTP Error 429: Too Many Requests",
            "rate_limited",
            id="429",
        ),
        pytest.param(
            "ERROR: [twitch:vod] 500123456: Unable to download JSON metadata: [Errno 111] Connection refused "
            "(caused by TransportError('[Errno 111] Connection refused'))" + REPORT,
            "network",
            id="refused, digits like a status",
        ),
        pytest.param(
            "ERROR: [twitch:vod] 7: Unable to download JSON metadata: Failed to resolve 'gql.twitch.tv' "
            "([Errno -3] Temporary failure in name resolution)",
            "network",
            id="dns",
        ),
        pytest.param(
            "ERROR: [twitch:vod] 7: Unable to download JSON metadata: HTTP Error 401: Unauthorized", "refused", id="401"
        ),
        pytest.param(
            "ERROR: [twitch:vod] 7: Failed to parse JSON (caused by JSONDecodeError(\"Expecting value in '<html>'\"))",
            "server_error",
            id="html instead of json",
        ),
        pytest.param("ERROR: [generic] Unsupported URL: https://example.org/", "not_ours", id="other site"),
        pytest.param("ERROR: unable to write data: [Errno 28] No space left on device", "disk_full", id="disk full"),
        pytest.param(given_up("HTTP Error 404: Not Found"), "part_missing", id="segment gone"),
        pytest.param(given_up("HTTP Error 403: Forbidden"), "part_missing", id="segment refused"),
        pytest.param(
            given_up("Downloaded 376293 bytes, expected 401380 bytes"), "part_missing", id="segment too short"
        ),
        pytest.param(given_up("HTTP Error 503: Service Unavailable"), "server_error", id="edge down"),
        pytest.param(given_up("HTTP Error 429: Too Many Requests"), "rate_limited", id="edge busy"),
        pytest.param(given_up("[Errno 104] Connection reset by peer"), "network", id="edge resets"),
        pytest.param(
            "ERROR: \n[download] Got error: HTTP Error 404: Not Found. Giving up after 8 retries\n"
            "ERROR: write to closed file",
            "part_missing",
            id="segment gone, another connection told",
        ),
        pytest.param("ERROR: fragment 503 not found, unable to continue", "part_missing", id="no reason given"),
        pytest.param("ERROR: Something new at 404 and 503", "unknown", id="bare digits are no status"),
        pytest.param("WARNING: HTTP Error 429: only a warning", "unknown", id="warnings do not count"),
        pytest.param("", "unknown", id="silence"),
    ],
)
def test_verdicts(stderr: str, verdict: str) -> None:
    assert classify_tool_output(stderr).verdict == ToolVerdict(verdict)


def test_the_sentence_loses_prefix_and_advice() -> None:
    stderr = "WARNING: old\nERROR: [twitch:vod] 12: Something broke" + REPORT + "\n"
    assert classify_tool_output(stderr).line == "Something broke"


def test_a_missing_segment_is_told_with_its_reason() -> None:
    line = classify_tool_output(given_up("HTTP Error 404: Not Found")).line
    assert line == "fragment 7 not found, unable to continue (HTTP Error 404: Not Found)"


def test_a_report_that_begins_with_an_empty_line_still_says_something() -> None:
    assert classify_tool_output("ERROR: \nERROR: It broke\n").line == "It broke"
