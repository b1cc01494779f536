"""Settings: every mistake is reported at once, with the nearest key."""

from __future__ import annotations

from pathlib import Path

import pytest

from device.settings import (
    MAX_SETTINGS_BYTES,
    Settings,
    SettingsError,
    WordsEngine,
    load,
    memory_dir,
    own_models_dir,
    settings_file,
    state_dir,
)


def written(folder: Path, text: str) -> Path:
    path = folder / "ostiary.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_without_a_file_the_defaults_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OSTIARY_CONFIG", raising=False)
    assert load() == Settings()


def test_the_environment_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSTIARY_CONFIG", str(written(tmp_path, '[door]\nname = "pharmacy"\n')))
    assert load().door.name == "pharmacy"


def test_a_table_changes_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    settings = load(written(tmp_path, "[audio.endpointer]\nend_ms = 500\n[store]\nretention_days = 90\n"))
    assert settings.audio.endpointer.end_ms == 500
    assert settings.audio.quality == Settings().audio.quality
    assert settings.store.keystore == Settings().store.keystore


def test_numbers_lists_and_choices_take_their_own_types(tmp_path: Path) -> None:
    settings = load(written(tmp_path, '[door]\nunlock_s = 3\nphrases = "de"\n[store]\npcrs = [0, 7]\n'))
    assert settings.door.unlock_s == 3.0
    assert settings.door.phrases == "de"
    assert settings.store.pcrs == (0, 7)


def test_a_unit_that_was_updated_starts_with_keys_that_nothing_reads_any_more(tmp_path: Path) -> None:
    file = written(tmp_path, "[audio.microphone]\nretry_s = 1.0\nretry_max_s = 30\n[challenge]\nwords = 7\n")
    assert load(file) == load(written(tmp_path, ""))
    with pytest.raises(SettingsError, match=r"unknown key `audio.retry_s`"):
        load(written(tmp_path, "[audio]\nretry_s = 1.0\n"))


def test_every_mistake_is_reported_at_once(tmp_path: Path) -> None:
    text = """
    [door]
    nmae = "pharmacy"
    unlock_s = 1000
    [judge]
    threads = "two"
    timeout_s = nan
    words = "song"
    [audio]
    quality = 3
    [sotre]
    """
    with pytest.raises(SettingsError) as caught:
        load(written(tmp_path, text))
    message = str(caught.value)
    assert message.count(";") == 6
    for part in ("did you mean `name`", "`door.unlock_s`", "`judge.threads`", "`judge.timeout_s`", "song"):
        assert part in message
    assert "`audio.quality` must be a table" in message
    assert "did you mean `store`" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('[door]\nunlock_s = "long"', "must be a number, not 'long'"),
        ("[judge]\nthreads = 1.5", "must be a whole number, not 1.5"),
        ("[judge]\nthreads = true", "must be a whole number, not true"),
        ("[door]\nname = 4", "must be a text, not 4"),
        ("[feedback]\nearcons = [1]", "must be true or false, not a list"),
        ("[feedback]\npage = 1", "must be a path, which is a text, not 1"),
    ],
)
def test_a_value_of_another_kind_is_refused_in_plain_words(tmp_path: Path, line: str, told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        load(written(tmp_path, line))


@pytest.mark.parametrize("engine", WordsEngine)
def test_every_words_engine_has_a_name_in_the_settings(tmp_path: Path, engine: WordsEngine) -> None:
    assert load(written(tmp_path, f'[judge]\nwords = "{engine}"')).judge.words is engine


def test_a_words_engine_that_there_is_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="whisper-base"):
        load(written(tmp_path, '[judge]\nwords = "whisper-large"'))


@pytest.mark.parametrize("text", ["not toml [", "\x00"])
def test_what_is_no_toml_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError, match="cannot read settings"):
        load(written(tmp_path, text))


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ostiary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="cannot read settings"):
        load(tmp_path / "ostiary.toml")


def test_a_missing_or_endless_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="first-boot"):
        load(tmp_path / "absent.toml")
    with pytest.raises(
        SettingsError, match=r"cannot read settings from \S+: it is a folder, and a plain file belongs there$"
    ):
        load(tmp_path)
    with pytest.raises(SettingsError, match="larger than"):
        load(written(tmp_path, "#" * (MAX_SETTINGS_BYTES + 1)))


def test_a_software_keystore_is_refused_in_production(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="refused in production"):
        load(written(tmp_path, '[store]\nprofile = "production"\nkeystore = "software"\n'))


@pytest.mark.parametrize(
    "line", [r'"\u001b[31mred" = 1', r'"a\nb" = 1', r'"' + "a" * 60_000 + '" = 1', r'"\u202ea" = 1']
)
def test_a_key_that_commands_a_terminal_or_has_no_end_is_told_in_one_short_line(
    tmp_path: Path, line: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        load(written(tmp_path, line))
    assert "unknown key" in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1_500


FOLDERS = {"OSTIARY_STATE_DIR": state_dir, "OSTIARY_RUNTIME_DIR": memory_dir}
PATHS = {**FOLDERS, "OSTIARY_MODELS_DIR": own_models_dir, "OSTIARY_CONFIG": settings_file}


@pytest.mark.parametrize("variable", PATHS)
def test_a_tilde_is_the_home_folder_in_every_variable_that_names_a_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(variable, "~/kept")
    assert PATHS[variable]() == tmp_path / "kept"


@pytest.mark.parametrize("variable", PATHS)
@pytest.mark.parametrize(
    "chosen",
    [
        " ",
        "/srv/ostiary ",
        "\t/srv/ostiary",
        "/srv/new\nline",
        "/srv/\u200bostiary",
        "/srv/\x1b[31m",
        "/srv/\udcff",
    ],
)
def test_a_path_with_a_blank_at_an_end_or_an_unseen_sign_is_not_meant(
    monkeypatch: pytest.MonkeyPatch, variable: str, chosen: str
) -> None:
    monkeypatch.setenv(variable, chosen)
    with pytest.raises(SettingsError, match=variable) as refused:
        PATHS[variable]()
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("variable", FOLDERS)
@pytest.mark.parametrize("chosen", ["$HOME/kept", "file:///srv/ostiary", "/", "///", "~"])
def test_a_folder_that_nothing_expanded_or_that_is_the_whole_disk_is_refused(
    monkeypatch: pytest.MonkeyPatch, variable: str, chosen: str
) -> None:
    monkeypatch.setenv("HOME", "/")
    monkeypatch.setenv(variable, chosen)
    with pytest.raises(SettingsError, match="the whole path of a folder of its own"):
        FOLDERS[variable]()


@pytest.mark.parametrize("variable", FOLDERS)
@pytest.mark.parametrize("chosen", ["kept/here", "./kept", "../kept"])
def test_a_folder_is_the_one_that_was_meant_wherever_the_program_goes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, chosen: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, chosen)
    found = FOLDERS[variable]()
    assert found is not None
    assert found.is_absolute()
    assert found.resolve() == (tmp_path / chosen).resolve()


@pytest.mark.parametrize("home", ["", "home/of/nobody"])
def test_without_a_home_folder_nothing_is_kept_at_the_disks_root_or_where_one_stands(
    monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    monkeypatch.setenv("HOME", home)
    for chosen in ("", "~/kept"):
        monkeypatch.setenv("OSTIARY_STATE_DIR", chosen)
        with pytest.raises(SettingsError, match="OSTIARY_STATE_DIR"):
            state_dir()


def test_a_link_that_leads_nowhere_or_in_a_circle_is_told_with_its_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "nowhere").symlink_to("/no/such/disk")
    (tmp_path / "one").symlink_to(tmp_path / "two")
    (tmp_path / "two").symlink_to(tmp_path / "one")
    for name, told in (("nowhere", "it is not there"), ("one", "in a circle")):
        monkeypatch.setenv("OSTIARY_STATE_DIR", str(tmp_path / name))
        with pytest.raises(SettingsError, match=f"is a link, and .*{told}"):
            state_dir()


@pytest.mark.parametrize("chosen", ["kept///", "./kept", "other/../kept", "kept \u00fcber"])
def test_another_way_to_write_a_whole_path_is_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, chosen: str
) -> None:
    monkeypatch.setenv("OSTIARY_STATE_DIR", f"{tmp_path}/{chosen}")
    assert state_dir() == Path(f"{tmp_path}/{chosen}")
