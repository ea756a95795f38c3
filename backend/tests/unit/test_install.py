"""How packages are installed: uv does what pip was set up to do (``tools/install.py``)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "tools" / "install.py"
_spec = importlib.util.spec_from_file_location("vodkeep_tools_install", SCRIPT)
assert _spec is not None
assert _spec.loader is not None
install = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(install)

PLAIN = {"UV_PYTHON_DOWNLOADS": "never", "UV_INDEX_STRATEGY": "unsafe-best-match"}


def test_the_environment_wins_over_files_in_any_order() -> None:
    listing = ":env:.index-url='https://env.example/simple'\nglobal.index-url='https://file.example/simple'\n"
    assert install.pip_settings(listing) == {"index-url": "https://env.example/simple"}
    assert install.pip_settings("\n".join(reversed(listing.splitlines()))) == {
        "index-url": "https://env.example/simple"
    }


def test_settings_of_install_win_over_global_ones_and_those_of_other_commands_do_not_count() -> None:
    listing = "install.timeout='5'\nglobal.timeout='180'\ndownload.find-links='elsewhere'\n"
    assert install.pip_settings(listing) == {"timeout": "5"}


def test_values_are_read_with_quotes_newlines_and_equal_signs_in_them() -> None:
    listing = (
        "global.extra-index-url='\\nhttps://one.example/a=b\\nhttps://two.example'\nglobal.cert=\"/it's/here.pem\"\n"
    )
    assert install.pip_settings(listing) == {
        "extra-index-url": "\nhttps://one.example/a=b\nhttps://two.example",
        "cert": "/it's/here.pem",
    }


def test_without_pip_settings_uv_is_left_alone() -> None:
    assert install.uv_environment({}, {}) == PLAIN


@pytest.mark.parametrize(
    ("pip", "told"),
    [
        pytest.param(
            {"index-url": "https://a.example/simple"}, {"UV_DEFAULT_INDEX": "https://a.example/simple"}, id="index"
        ),
        pytest.param(
            {"extra-index-url": "\nhttps://b.example\nhttps://c.example"},
            {"UV_INDEX": "https://b.example https://c.example"},
            id="further indexes",
        ),
        pytest.param({"find-links": "/one /two"}, {"UV_FIND_LINKS": "/one,/two"}, id="folders of wheels"),
        pytest.param({"no-index": "1"}, {"UV_NO_INDEX": "1"}, id="no index"),
        pytest.param({"no-index": "false"}, {}, id="no index switched off"),
        pytest.param(
            {"trusted-host": "a.example b.example"}, {"UV_INSECURE_HOST": "a.example b.example"}, id="trusted"
        ),
        pytest.param({"cert": "/ca.pem"}, {"SSL_CERT_FILE": "/ca.pem"}, id="certificates"),
        pytest.param(
            {"proxy": "http://p:3128"}, {"HTTPS_PROXY": "http://p:3128", "HTTP_PROXY": "http://p:3128"}, id="proxy"
        ),
    ],
)
def test_uv_is_told_what_pip_was_told(pip: dict[str, str], told: dict[str, str]) -> None:
    assert install.uv_environment(pip, {}) == PLAIN | told


@pytest.mark.parametrize("name", ["UV_DEFAULT_INDEX", "UV_INDEX_URL"])
def test_what_was_said_to_uv_itself_stays(name: str) -> None:
    told = install.uv_environment({"index-url": "https://pip.example"}, {name: "https://uv.example"})
    assert told == PLAIN
