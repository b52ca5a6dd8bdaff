"""Settings: arguments, environment, defaults; what is refused; and that the key is nowhere to be seen."""

from __future__ import annotations

import copy
import os
import pickle
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import bluejay_ws
from bluejay_ws.exceptions import ConfigurationError
from bluejay_ws.settings import Retry, Secret, Settings, default_spool

if TYPE_CHECKING:
    from collections.abc import Callable

CANARY = "canary-0f8c2d-key"
PACKAGE = str(Path(bluejay_ws.__file__).parent)
HOME = {"HOME": "/home/agent"}


def load(environ: dict[str, str] | None = None, **arguments: Any) -> Settings:
    """Return settings from an environment of the test's own."""
    return Settings.load(environ={**HOME, **(environ or {})}, **arguments)


def printed(error: BaseException) -> str:
    """Return the traceback as tools print it that show the locals of each frame, without the test's own frames."""
    whole = traceback.TracebackException.from_exception(error, capture_locals=True)
    ours = [frame for frame in whole.stack if frame.filename.startswith(PACKAGE)]
    assert ours
    whole.stack = traceback.StackSummary.from_list(ours)
    return "".join(whole.format(chain=True))


# -- where values come from ------------------------------------------------------------------------------------------


def test_without_anything_the_defaults_hold() -> None:
    """No key, the platform's own URL, the user's state directory."""
    settings = load()
    assert settings.api_key is None
    assert settings.base_url == "https://api.getbluejay.ai"
    assert settings.spool == Path("/home/agent/.local/state/bluejay_ws/spool")
    assert settings.retry == Retry()
    assert (settings.timeout, settings.flush_timeout, settings.redial_wait) == (10.0, 10.0, 2.0)
    assert settings == Settings(spool=settings.spool, apart="there is no API key")


def test_the_environment_is_read(tmp_path: Path) -> None:
    """Key, URL and spool may come from the environment."""
    settings = load(
        {"BLUEJAY_API_KEY": "k", "BLUEJAY_API_URL": "https://eu.example/v1/", "BLUEJAY_SPOOL": str(tmp_path)}
    )
    assert settings.api_key == Secret("k")
    assert settings.base_url == "https://eu.example"
    assert settings.spool == tmp_path


def test_arguments_win_over_the_environment(tmp_path: Path) -> None:
    """What is written in code counts."""
    environ = {"BLUEJAY_API_KEY": "no", "BLUEJAY_API_URL": "https://no.example", "BLUEJAY_SPOOL": "/no"}
    settings = load(environ, api_key="yes", base_url="https://yes.example", spool=tmp_path, retry=Retry(first=1.0))
    assert settings.api_key is not None
    assert settings.api_key.reveal() == "yes"
    assert (settings.base_url, settings.spool) == ("https://yes.example", tmp_path)
    assert settings.retry.first == 1.0


def test_the_environment_of_the_process_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `environ` it is `os.environ` that counts."""
    monkeypatch.setenv("BLUEJAY_API_KEY", "from-the-process")
    assert Settings.load().api_key == Secret("from-the-process")
    assert default_spool() == Path(os.environ["XDG_STATE_HOME"]) / "bluejay_ws" / "spool"


@pytest.mark.parametrize(
    ("given", "environ"), [("", {}), (None, {"BLUEJAY_API_KEY": ""}), ("", {"BLUEJAY_API_KEY": "k"})]
)
def test_an_empty_key_is_no_key(given: str | None, environ: dict[str, str]) -> None:
    """A variable that is set to nothing is not set; an empty argument does not fall back on the environment."""
    assert load(environ, api_key=given).api_key is None


# -- the URL ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://api.getbluejay.ai", "https://api.getbluejay.ai"),
        ("https://api.getbluejay.ai/", "https://api.getbluejay.ai"),
        ("https://api.getbluejay.ai/v1", "https://api.getbluejay.ai"),
        ("https://api.getbluejay.ai/v1/", "https://api.getbluejay.ai"),
        ("https://api.getbluejay.ai/v1//", "https://api.getbluejay.ai"),
        (" https://api.getbluejay.ai/v1\n", "https://api.getbluejay.ai"),
        ("https://gateway.example/bluejay/v1", "https://gateway.example/bluejay"),
        ("https://gateway.example:8443//", "https://gateway.example:8443"),
        ("HTTPS://API.example", "https://API.example"),
        ("https://[2001:db8::1]:443", "https://[2001:db8::1]:443"),
        ("http://localhost:8000/v1", "http://localhost:8000"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_the_url_is_taken_in_every_form_in_use(given: str, kept: str) -> None:
    """With or without ``/v1``, with trailing slashes, as argument and from the environment."""
    assert load(base_url=given).base_url == kept
    assert load({"BLUEJAY_API_URL": given}).base_url == kept


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("https://user:s3cret@api.example", "user name or password"),
        ("https://s3cret@api.example", "user name or password"),
        ("https://@api.example", "user name or password"),
        ("http://api.getbluejay.ai", "plain http to 'api.getbluejay.ai'"),
        ("http://localhost.example", "plain http to 'localhost.example'"),
        ("http://[::2]", "plain http to '::2'"),
        ("https://api.example?key=s3cret", "not a plain http"),
        ("https://api.example#s3cret", "not a plain http"),
        ("s3cret", "not a plain http"),
        ("ftp://api.example", "not a plain http"),
        ("file:///etc/passwd", "not a plain http"),
        ("https://", "not a plain http"),
        ("https:///path", "not a plain http"),
        ("https://[::1", "not a URL"),
        ("https://api.example:99999", "not a URL"),
        ("https://api.example:port", "not a URL"),
        ("https://api.ex ample", "not a URL"),
        ("https://api.example/\r\nX-Evil: 1", "not a URL"),
        ("https://api.example/\x00", "not a URL"),
        (5, "not a URL"),
        (b"https://api.example", "not a URL"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_being_quoted(given: Any, reason: str) -> None:
    """The message says what is wrong and how to write it; it may be a secret in the wrong place, so it is not shown."""
    with pytest.raises(ConfigurationError, match=reason) as caught:
        load(base_url=given)
    assert caught.value.setting == "base_url"
    assert "https://api.getbluejay.ai" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_url_from_the_environment_is_named_by_its_variable() -> None:
    """Who made the mistake in a deployment looks for the variable; the value is in no frame of ours."""
    with pytest.raises(ConfigurationError) as caught:
        load({"BLUEJAY_API_URL": CANARY})
    assert caught.value.setting == "BLUEJAY_API_URL"
    assert CANARY not in printed(caught.value)


def test_an_empty_url_variable_is_not_set() -> None:
    """``BLUEJAY_API_URL=`` means the default; an empty argument is a mistake."""
    assert load({"BLUEJAY_API_URL": ""}).base_url == "https://api.getbluejay.ai"
    with pytest.raises(ConfigurationError, match="base_url is not a plain"):
        load(base_url="")


# -- the spool -------------------------------------------------------------------------------------------------------


def test_the_spool_follows_the_state_directory() -> None:
    """``XDG_STATE_HOME`` counts if it is absolute, as its specification says."""
    assert default_spool({**HOME, "XDG_STATE_HOME": "/state"}) == Path("/state/bluejay_ws/spool")
    assert default_spool({**HOME, "XDG_STATE_HOME": "state"}) == Path("/home/agent/.local/state/bluejay_ws/spool")
    assert default_spool({}).is_absolute()


@pytest.mark.parametrize("given", [None, True])
def test_the_spool_is_on_unless_switched_off(given: bool | None) -> None:
    """Left out and True mean the default place, False means memory only."""
    assert load(spool=given).spool == default_spool(HOME)
    assert load({"BLUEJAY_SPOOL": "/var/spool/bluejay"}, spool=given).spool == Path("/var/spool/bluejay")
    assert load({"BLUEJAY_SPOOL": "/var/spool/bluejay"}, spool=False).spool is None


def test_the_spool_stays_where_it_is_when_the_process_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path, and one with a tilde, is made absolute once."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/agent")
    assert load(spool="spool").spool == tmp_path / "spool"
    assert load({"BLUEJAY_SPOOL": "~/spool"}).spool == Path("/home/agent/spool")
    assert load(spool=Path("~") / "spool").spool == Path("/home/agent/spool")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("", "is empty"),
        ("a\0b", "holds a NUL"),
        (5, r"is no path \(TypeError\)"),
        (b"bytes", r"is no path \(TypeError\)"),
        ("~nobody-of-this-name/spool", "there is none"),
    ],
)
def test_what_is_no_directory_is_refused(given: Any, reason: str) -> None:
    """Above all an empty string, which would be the current directory."""
    with pytest.raises(ConfigurationError, match=reason) as caught:
        load(spool=given)
    assert caught.value.setting == "spool"


def test_a_spool_relative_to_a_directory_that_is_gone_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no current directory a relative path is none."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(ConfigurationError, match=r"is no path \(FileNotFoundError\)"):
        load({"BLUEJAY_SPOOL": "spool"})


# -- numbers and functions -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("timeout", value) for value in (0, -1.0, float("nan"), float("inf"), 10**400, 1e300, None, "10")),
        *(("flush_timeout", value) for value in (-0.1, float("nan"), float("inf"), None, "10")),
        *(("redial_wait", value) for value in (-0.1, float("nan"), float("inf"), None, "10")),
    ],
)
def test_durations_are_finite_numbers_of_seconds(name: str, value: Any) -> None:
    """Anything else is refused at once, and not in some thread in the middle of a call."""
    with pytest.raises(ConfigurationError, match=f"^{name} is .*give a number of seconds"):
        load(**{name: value})


def test_waits_may_be_zero() -> None:
    """Not to wait at all is a choice."""
    settings = load(flush_timeout=0, redial_wait=0)
    assert (settings.flush_timeout, settings.redial_wait) == (0, 0)


@pytest.mark.parametrize(
    ("values", "setting"),
    [
        ({"first": 0}, "Retry.first"),
        ({"ceiling": -1.0}, "Retry.ceiling"),
        ({"retry_after_ceiling": float("nan")}, "Retry.retry_after_ceiling"),
        ({"read_back": ()}, "Retry.read_back"),
        ({"read_back": (1.0, -1.0)}, "Retry.read_back"),
        ({"resend_first": 0}, "Retry.resend_first"),
    ],
)
def test_retry_refuses_what_makes_no_sense(values: dict[str, Any], setting: str) -> None:
    """Each field is checked when it is written."""
    with pytest.raises(ConfigurationError) as caught:
        Retry(**values)
    assert caught.value.setting == setting


def test_retry_must_be_one() -> None:
    """A number would fail at the first report that is not accepted."""
    with pytest.raises(ConfigurationError, match=r"retry is 3; give a Retry"):
        load(retry=3)


def test_redact_must_be_callable() -> None:
    """A hook that cannot be called would let everything through, or nothing."""
    assert load(redact=str.join).redact is str.join
    with pytest.raises(ConfigurationError, match=r"redact is not callable"):
        load(redact="yes")


def test_redact_must_not_be_async() -> None:
    """Nobody would await it: each value would be replaced by a coroutine that never ran."""

    async def hook(kind: str, value: object) -> object:
        return kind, value

    class Hook:
        async def __call__(self, kind: str, value: object) -> object:
            return kind, value

    for one in (hook, Hook()):
        with pytest.raises(ConfigurationError, match=r"redact is async; give a plain function"):
            load(redact=one)


# -- the key ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", ["a b", "a\r\nX-Evil: 1", "a\x00", "a\x1b[31m", "ä", "\ud800", "\x7f"])
def test_a_key_that_cannot_stand_in_a_header_is_like_a_missing_one(wrong: str) -> None:
    """Blanks, line ends, control characters and anything beyond ASCII in it: said, never quoted, and nothing raises."""
    key = f"{CANARY}{wrong}{CANARY}"
    for settings, name in ((load(api_key=key), "api_key"), (load({"BLUEJAY_API_KEY": key}), "BLUEJAY_API_KEY")):
        assert settings.api_key is None
        assert settings.key_problem.startswith(f"{name} holds blanks")
        assert settings.apart
        assert CANARY not in repr(settings)


@pytest.mark.parametrize("blank", ["\n", " ", "\r\n", "\t"])
def test_blanks_round_a_key_do_not_count(blank: str) -> None:
    """Every mounted secret ends with a line end."""
    assert load(api_key=f"{blank}{CANARY}{blank}").api_key == Secret(CANARY)
    assert load({"BLUEJAY_API_KEY": f"{CANARY}{blank}"}).api_key == Secret(CANARY)


@pytest.mark.parametrize(
    "left", ["\ufeff", "\ufeff\n", "'", '"', '\n"', "\u200b", "\0", "\xa0", "\u2028", "\u3000", "\u200e"]
)
def test_what_editors_and_env_files_leave_round_a_key_does_not_count(left: str) -> None:
    """A byte order mark, the quotes of an env file, a NUL, blanks that nobody sees."""
    assert load({"BLUEJAY_API_KEY": f"{left}{CANARY}{left[::-1]}"}).api_key == Secret(CANARY)
    assert load(api_key=f"{left}{CANARY}{left[::-1]}").api_key == Secret(CANARY)


@pytest.mark.parametrize("nothing", ["''", '"', "\ufeff", "\n"])
def test_a_key_of_nothing_but_that_is_missing_or_wrong(nothing: str) -> None:
    """It is never sent, and calls are kept."""
    settings = load({"BLUEJAY_API_KEY": nothing})
    assert settings.apart
    assert settings.api_key is None or settings.api_key.reveal() == '"'


@pytest.mark.parametrize("left", ["\n", "\ufeff", '"', "\u200b"])
def test_what_they_leave_round_an_address_does_not_count(left: str) -> None:
    """Docker's ``--env-file`` keeps quotes; an agent must not go unrecorded for them. Of nothing, it is the default."""
    url = "https://api.example.com/v1"
    assert load({"BLUEJAY_API_URL": f"{left}{url}{left}"}).base_url == "https://api.example.com"
    assert load({"BLUEJAY_API_URL": left * 2}).base_url == load().base_url


@pytest.mark.parametrize("left", ["\n", " ", "'"])
def test_a_mounted_spool_setting_is_understood(left: str, tmp_path: Path) -> None:
    """A line end must make no directory of a database's URL, with its password in the name."""
    database = load({"BLUEJAY_SPOOL": f"{left}postgresql://u:p@db/x{left}", "HOME": str(tmp_path)}).database
    assert database == Secret("postgresql://u:p@db/x")
    assert load({"BLUEJAY_SPOOL": f"{left}{tmp_path}{left}"}).spool == tmp_path


@pytest.mark.parametrize("scheme", ["postgresql+psycopg", "POSTGRESQL", "mysql", "file"])
def test_a_url_of_something_else_becomes_no_directory(scheme: str) -> None:
    """Its password would stand in a path, for all to see."""
    with pytest.raises(ConfigurationError, match="not of PostgreSQL") as caught:
        load({"BLUEJAY_SPOOL": f"{scheme}://u:{CANARY}@db/x"})
    assert CANARY not in printed(caught.value)


@pytest.mark.parametrize("wrong", [CANARY.encode(), 5, [CANARY]])
def test_a_key_that_is_no_text_is_like_a_missing_one(wrong: Any) -> None:
    """Bytes are the usual mistake; it is their kind that is wrong, and not their characters."""
    settings = load(api_key=wrong)
    assert settings.api_key is None
    assert settings.key_problem == f"api_key is no text but {type(wrong).__name__}; give the key as a str"


def test_a_test_reports_to_no_account_but_to_the_local_platform() -> None:
    """Under pytest reports for a platform elsewhere are kept apart; those for this machine go out."""
    assert load(api_key="k").apart
    assert not load(api_key="k", base_url="http://127.0.0.1:1").apart


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://api.getbluejay.ai", "https_api.getbluejay.ai_443"),
        ("http://127.0.0.1:8080", "http_127.0.0.1_8080"),
        ("http://[::1]:8080", "http_--1_8080"),
    ],
)
def test_each_platform_has_a_place_of_its_own(url: str, name: str) -> None:
    """Told by scheme, host and port."""
    assert load(api_key="k", base_url=url).destination == name


@pytest.mark.parametrize(
    "wrong",
    [
        {"timeout": 0},
        {"flush_timeout": -1},
        {"redial_wait": -1},
        {"redact": "yes"},
        {"base_url": "nonsense"},
        {"base_url": "https://[::1"},
        {"base_url": "http://api.example"},
        {"base_url": "https://u:p@api.example"},
        {"spool": ""},
        {"spool": 5},
        {"spool": "~nobody-of-this-name/x"},
    ],
)
def test_whatever_is_refused_the_key_is_not_in_the_traceback(wrong: dict[str, Any]) -> None:
    """No frame of ours has the key, nor the environment, among its locals when it raises."""
    with pytest.raises(ConfigurationError) as caught:
        load(api_key=CANARY, **wrong)
    assert CANARY not in printed(caught.value)
    with pytest.raises(ConfigurationError) as caught:
        load({"BLUEJAY_API_KEY": CANARY}, **wrong)
    assert CANARY not in printed(caught.value)


def test_a_secret_shows_itself_to_nobody_who_does_not_ask() -> None:
    """Not in repr, str, format, pickle, deep copy, attributes or within its settings."""
    secret = Secret(CANARY)
    settings = load(api_key=secret)
    assert repr(secret) == str(secret) == f"{secret}" == "Secret('**********')"
    assert CANARY not in f"{settings!r} {settings} {vars(settings)}"
    assert not hasattr(secret, "__dict__")
    assert CANARY not in repr([getattr(secret, name) for name in dir(secret)])
    actions: list[Callable[[], object]] = [
        lambda: pickle.dumps(secret),
        lambda: pickle.dumps(settings),
        lambda: copy.copy(secret),
        lambda: copy.deepcopy(secret),
    ]
    for action in actions:
        with pytest.raises(TypeError, match="cannot be pickled") as caught:
            action()
        assert CANARY not in printed(caught.value)
    assert secret.reveal() == CANARY


def test_secrets_compare_by_what_they_hold() -> None:
    """Settings with the same key are equal, and can be put into sets."""
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2


def test_wrapping_a_secret_changes_nothing() -> None:
    """A plain key is wrapped, a wrapped one and none are passed on."""
    secret = Secret("a")
    assert Secret.wrap(secret) is secret
    assert Secret.wrap(None) is None
    assert Secret.wrap("a") == secret


@pytest.mark.parametrize(
    ("given", "environ", "expected"),
    [
        (None, {}, None),
        (True, {"BLUEJAY_VERIFY": "0"}, 60.0),
        (False, {"BLUEJAY_VERIFY": "1"}, None),
        (90, {}, 90),
        (None, {"BLUEJAY_VERIFY": " True "}, 60.0),
        (None, {"BLUEJAY_VERIFY": "off"}, None),
        (None, {"BLUEJAY_VERIFY": "1.5"}, 1.5),
    ],
)
def test_verify_is_a_switch_or_a_number_of_seconds(given: Any, environ: dict[str, str], expected: float | None) -> None:
    """Off by default; the argument goes before the environment."""
    assert load(environ, verify=given).verify == expected


@pytest.mark.parametrize(("given", "environ"), [("often", {}), (0, {}), (None, {"BLUEJAY_VERIFY": "often"})])
def test_a_verify_that_is_neither_is_refused(given: Any, environ: dict[str, str]) -> None:
    """The message names what was given."""
    with pytest.raises(ConfigurationError, match=r"(verify|BLUEJAY_VERIFY).* is ('often'|0)"):
        load(environ, verify=given)
