from __future__ import annotations

from pathlib import Path

import pytest

from vodkeep.errors import SettingsError
from vodkeep.settings import Source, load_settings


def write(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "some.env"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def problems(path: Path) -> list[str]:
    with pytest.raises(SettingsError) as refused:
        load_settings({}, path)
    return refused.value.problems


def test_the_environment_wins_over_the_file_and_the_file_over_the_default(tmp_path: Path) -> None:
    file = write(tmp_path, "LOG_LEVEL=debug\nLOG_FORMAT=json\nexport VOD_PROCESS_INTERVAL='2m' # comment\n")
    settings = load_settings({"LOG_LEVEL": "error", "LOG_FORMAT": ""}, file)
    assert (settings.log.level, settings.source_of("LOG_LEVEL")) == ("error", Source.ENVIRONMENT)
    assert (settings.log.format, settings.source_of("LOG_FORMAT")) == ("json", Source.FILE)
    assert settings.source_of("VOD_PROCESS_INTERVAL") is Source.FILE
    assert settings.source_of("DATA_DIR") is Source.DEFAULT


def test_a_variable_can_name_the_file_and_an_argument_wins_over_it(tmp_path: Path) -> None:
    file = write(tmp_path, "LOG_LEVEL=debug\n")
    other = tmp_path / "other.env"
    other.write_text("LOG_LEVEL=error\n")
    environ = {"VODKEEP_ENV_FILE": str(file)}
    assert load_settings(environ).log.level == "debug"
    assert load_settings(environ, other).log.level == "error"


def test_a_bad_value_in_the_file_that_the_environment_replaces_is_no_problem(tmp_path: Path) -> None:
    assert load_settings({"LOG_LEVEL": "info"}, write(tmp_path, "LOG_LEVEL=loud\n")).log.level == "info"


def test_a_bad_value_is_told_with_the_file_it_stands_in(tmp_path: Path) -> None:
    file = write(tmp_path, "LOG_LEVEL=loud\n")
    assert problems(file) == [f'LOG_LEVEL in {file} is "loud" but must be one of debug, info, warning, error.']


def test_a_pair_may_be_split_between_file_and_environment(tmp_path: Path) -> None:
    settings = load_settings({"ADMIN_PASSWORD": "correct horse"}, write(tmp_path, "ADMIN_USERNAME=me\n"))
    assert settings.web.admin_username == "me"


def test_a_dollar_in_a_password_is_not_substituted(tmp_path: Path) -> None:
    file = write(tmp_path, 'ADMIN_USERNAME=me\nADMIN_PASSWORD="pa$HOME${PATH}word"\n')
    password = load_settings({}, file).web.admin_password
    assert password is not None
    assert password.get_secret_value() == "pa$HOME${PATH}word"


@pytest.mark.parametrize(
    "text", ["\ufeffLOG_LEVEL=debug\r\nLOG_FORMAT=json\r\n", "LOG_LEVEL\nLOG_LEVEL=info\nLOG_LEVEL=debug"]
)
def test_files_from_other_editors_are_read_and_the_last_line_counts(tmp_path: Path, text: str) -> None:
    assert load_settings({}, write(tmp_path, text)).log.level == "debug"


def test_a_slip_in_the_file_is_warned_about(tmp_path: Path) -> None:
    settings = load_settings({}, write(tmp_path, "TWITCH_CHANEL=someone\nPOSTGRES_PASSWORD=x\n"))
    assert settings.warnings == ("TWITCH_CHANEL is not a setting and is ignored; did you mean TWITCH_CHANNEL?",)


def test_files_that_cannot_be_used_are_told_in_one_sentence(tmp_path: Path) -> None:
    missing = tmp_path / "missing.env"
    assert problems(missing) == [f"The env file {missing} does not exist; backend/.env.example is one to start from."]
    assert problems(tmp_path) == [f"The env file {tmp_path} is a folder."]
    below_a_file = write(tmp_path, "") / "x"
    assert problems(below_a_file) == [f"The env file {below_a_file} cannot be read: Not a directory."]
    latin = write(tmp_path, b"LOG_LEVEL=d\xe9bug\n")
    assert problems(latin) == [f"The env file {latin} is not UTF-8 text."]
    huge = write(tmp_path, b"#" * 1_000_001)
    assert problems(huge) == [f"The env file {huge} is larger than 1 MB, which no list of settings is."]


def test_an_unreadable_line_is_told_by_number_without_its_text_beside_other_problems(tmp_path: Path) -> None:
    file = write(tmp_path, "LOG_FORMAT=xml\nADMIN_TOKEN='s3cr3t\nLOG_LEVEL=loud\n")
    told = problems(file)
    assert told[0] == f"Line 2 of {file} cannot be read; expected is NAME=value, with quotes in pairs."
    assert [sentence.split()[0] for sentence in told[1:]] == ["LOG_LEVEL", "LOG_FORMAT"]
    assert "s3cr3t" not in "".join(told)
