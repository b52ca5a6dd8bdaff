"""What a user configures: arguments first, then the environment, then the defaults."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from dataclasses import dataclass, field
from inspect import iscoroutinefunction
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from bluejay_ws.exceptions import ConfigurationError
from bluejay_ws.wire.platform import DEFAULT_BASE_URL

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeAlias

    _Spool: TypeAlias = str | os.PathLike[str] | bool | None

__all__ = ["Retry", "Secret", "Settings", "default_spool", "destination_of"]

_DATABASES = ("postgresql://", "postgres://")
VERIFY_AFTER = 60.0
LONGEST = 10**9  # seconds: the system's calls that wait refuse a longer time
_SWITCHES = (
    {"": False} | dict.fromkeys(("0", "false", "no", "off"), False) | dict.fromkeys(("1", "true", "yes", "on"), True)
)
_BLANKS = r"[\s\0\u200b-\u200f\u2060\ufeff]+"  # a NUL, a BOM and what nobody sees are left by editors and shells
_ROUND = re.compile(rf"\A{_BLANKS}|{_BLANKS}\Z")
LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


class Secret:
    """Hold an API key so that no repr, str, pickle or traceback with locals shows it.

    Args:
        value: the key; read it with `reveal` at the moment it is sent, and nowhere else.
    """

    __slots__ = ("_reveal",)

    def __init__(self, value: str) -> None:
        def reveal() -> str:
            return value

        self._reveal = reveal

    @classmethod
    def wrap(cls, value: str | Secret | None) -> Secret | None:
        """Return ``value`` as a secret; None stays None. Rebind the plain name to the result at once."""
        return value if value is None or isinstance(value, Secret) else cls(value)

    def reveal(self) -> str:
        """Return the key itself."""
        return self._reveal()

    def stripped(self) -> Secret:
        """Return the key without what comes with mounted secrets and env files: blanks, line ends, a BOM, quotes."""
        value = self._reveal()
        return Secret(_bare(value)) if isinstance(value, str) else self  # type: ignore[redundant-expr]  # users lie

    def fits_a_header(self) -> bool:
        """Return whether the key is text of visible ASCII characters only."""
        return isinstance(self._reveal(), str) and re.fullmatch(r"[\x21-\x7e]+", self._reveal()) is not None

    def __repr__(self) -> str:
        return "Secret('**********')"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self.reveal() == other.reveal()

    def __hash__(self) -> int:
        return hash(self.reveal())

    def __reduce__(self) -> tuple[Any, ...]:
        message = "an API key cannot be pickled; read it from the environment in the other process"
        raise TypeError(message)


def _bare(text: str) -> str:
    """Return a setting without blanks, line ends and one pair of quotes round it."""
    text = _ROUND.sub("", text)
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return _ROUND.sub("", text[1:-1]) if quoted else text


@dataclass(frozen=True, kw_only=True)
class Retry:
    """Say how a report that was not accepted is tried again. All durations are seconds.

    Args:
        first: upper bound of the first wait after the immediate second try; doubles with each try.
        ceiling: upper bound of any wait between two tries.
        retry_after_ceiling: the longest ``Retry-After`` of the platform that is believed.
        read_back: seconds after an unknown outcome at which the platform is looked at, rising.
        resend_first: seconds after the last of these looks until a report that did not show is looked for once more,
            and sent again; doubles each time.
        resend_ceiling: upper bound of that wait.
    """

    first: float = 0.5
    ceiling: float = 300.0
    retry_after_ceiling: float = 900.0
    read_back: tuple[float, ...] = (1.0, 3.0, 8.0)
    resend_first: float = 15.0
    resend_ceiling: float = 300.0

    def __post_init__(self) -> None:
        for name in ("first", "ceiling", "retry_after_ceiling", "resend_first", "resend_ceiling"):
            _check_seconds(f"Retry.{name}", getattr(self, name))
        if not self.read_back:
            raise ConfigurationError("Retry.read_back", "is empty", "give at least one number of seconds")
        for wait in self.read_back:
            _check_seconds("Retry.read_back", wait, zero=True)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Hold one client's configuration, checked; `bluejay_ws.Bluejay` explains it. Build it with `Settings.load`.

    Attributes:
        base_url: where the platform is, without trailing slash and without ``/v1``.
        spool: directory of the spool; None keeps reports in memory only.
        database: URL of the PostgreSQL database that reports of a fleet are handed over to; then ``spool`` is where
            they are kept until they are there.
        verify: seconds from a delivery to the one look whether the platform has it; None: there is none.
        key_problem: why there is no key although one was given; never the key.
        spool_problem: why there is no spool although none was forbidden.
        apart: why reports are kept apart and go nowhere by themselves; empty if they are for the platform.
    """

    api_key: Secret | None = None
    base_url: str = DEFAULT_BASE_URL
    timeout: float = 10.0
    retry: Retry = field(default_factory=Retry)
    spool: Path | None = None
    database: Secret | None = None
    redact: Callable[[str, Any], Any] | None = None
    flush_timeout: float = 10.0
    redial_wait: float = 2.0
    verify: float | None = None
    key_problem: str = ""
    spool_problem: str = ""
    apart: str = ""

    @property
    def is_local(self) -> bool:
        """Whether the platform is on this machine: the local one, and nobody's account."""
        return urlsplit(self.base_url).hostname in LOOPBACK_HOSTS

    @property
    def destination(self) -> str:
        """The name of the spool's place for this platform: scheme, host and port, as a file name may hold them."""
        return destination_of(self.base_url)

    @classmethod
    def load(
        cls,
        *,
        api_key: str | Secret | None = None,
        base_url: str | None = None,
        timeout: float = 10.0,
        retry: Retry | None = None,
        spool: _Spool = None,
        redact: Callable[[str, Any], Any] | None = None,
        flush_timeout: float = 10.0,
        redial_wait: float = 2.0,
        verify: bool | float | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> Settings:
        """Return checked settings: of the arguments of `bluejay_ws.Bluejay`, then the environment, then the defaults.

        Beside a database, local files are in ``BLUEJAY_SPOOL_DIRECTORY``, then in the user's state directory.

        Raises:
            ConfigurationError: a value cannot be used; its text never holds the key.
        """
        env = _Environment(environ)
        api_key = Secret.wrap(api_key)  # from here on no frame of ours has the plain key among its locals
        del environ
        _check_seconds("timeout", timeout)
        _check_seconds("flush_timeout", flush_timeout, zero=True)
        _check_seconds("redial_wait", redial_wait, zero=True)
        if not isinstance(retry, Retry | None):
            raise ConfigurationError("retry", f"is {retry!r}", "give a Retry, such as Retry(ceiling=60)")
        if redact is not None and not callable(redact):
            raise ConfigurationError("redact", "is not callable", "give a function redact(kind, value)")
        if iscoroutinefunction(redact) or iscoroutinefunction(getattr(redact, "__call__", None)):  # noqa: B004 - its kind
            raise ConfigurationError("redact", "is async", "give a plain function: its result is needed at once")
        database, spool = _database(spool, env)
        url = _checked_url(base_url, env)
        key, key_problem = _checked_key(api_key, env)
        directory, spool_problem = _spool_directory(spool, env)
        return cls(
            api_key=key,
            base_url=url,
            timeout=timeout,
            retry=retry or Retry(),
            spool=directory,
            key_problem=key_problem,
            spool_problem=spool_problem,
            apart="" if database else _why_apart(key, url, env),
            database=database,
            redact=redact,
            flush_timeout=flush_timeout,
            redial_wait=redial_wait,
            verify=_verify_after(verify, env),
        )


def _check_seconds(setting: str, value: Any, *, zero: bool = False) -> None:
    sound = isinstance(value, int | float) and (value >= 0 if zero else value > 0) and value <= LONGEST
    if not sound:
        remedy = f"{'zero or more' if zero else 'above zero'}, and no more than {LONGEST}"
        reason = "is too large" if isinstance(value, int | float) and value > LONGEST else f"is {value!r}"
        raise ConfigurationError(setting, reason, f"give a number of seconds, {remedy}")


def _verify_after(given: bool | float | None, env: _Environment) -> float | None:  # noqa: FBT001 - see Settings.load
    """Return the seconds to wait before a delivered report is looked for; None: it is not looked for."""
    setting, value = "verify", given
    if given is None:
        setting = "BLUEJAY_VERIFY"
        word = (env.get(setting) or "").strip().lower()
        value = _SWITCHES.get(word)
        if value is None:
            if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", word):
                raise ConfigurationError(setting, f"is {word!r}", "set it to 1, 0, or a number of seconds above zero")
            value = float(word)
    if isinstance(value, bool):
        return VERIFY_AFTER if value else None
    _check_seconds(setting, value)
    return value


def default_spool(environ: Mapping[str, str] | None = None) -> Path:
    """Return the spool directory used when none is given: below the user's state directory.

    Raises:
        ConfigurationError: the user has no home directory.
    """
    return _default_spool(_Environment(environ))


def _default_spool(env: _Environment) -> Path:
    state = env.get("XDG_STATE_HOME") or ""
    if not state.startswith("/"):  # the XDG specification has relative ones ignored
        state = f"{env.get('HOME') or '~'}/.local/state"
    return _directory("BLUEJAY_SPOOL", state) / "bluejay_ws" / "spool"


class _Environment:
    """The environment, with a repr that shows nothing of it: tracebacks may print the locals of our frames."""

    __slots__ = ("get",)

    def __init__(self, environ: Mapping[str, str] | None) -> None:
        source = os.environ if environ is None else environ
        self.get: Callable[[str], str | None] = source.get

    def __repr__(self) -> str:
        return "<environment>"


def _checked_key(given: Secret | None, env: _Environment) -> tuple[Secret | None, str]:
    """Return the key without blanks and line ends round it, and what is wrong with one that cannot be used."""
    setting = "BLUEJAY_API_KEY" if given is None else "api_key"
    key = Secret(env.get("BLUEJAY_API_KEY") or "") if given is None else given
    key = key.stripped()
    if key.reveal() == "":
        return None, ""
    if key.fits_a_header():
        return key, ""
    if not isinstance(key.reveal(), str):
        return None, f"{setting} is no text but {type(key.reveal()).__name__}; give the key as a str"
    reason = "holds blanks, line ends or characters that cannot stand in a header"
    return None, f"{setting} {reason}; copy the key again, without quotes and blanks"


def _why_apart(key: Secret | None, url: str, env: _Environment) -> str:
    """Return why what is recorded must not go to the platform; empty if it may."""
    if key is None:
        return "there is no API key"
    under_pytest = "pytest" in sys.modules or env.get("PYTEST_CURRENT_TEST")
    if under_pytest and urlsplit(url).hostname not in LOOPBACK_HOSTS:
        return "pytest runs, and a test must not report to an account"
    return ""


def destination_of(base_url: str) -> str:
    """Return the name of a spool's place for a platform: ``https_api.getbluejay.ai_443``.

    Args:
        base_url: of the platform, checked.
    """
    url = urlsplit(base_url)
    port = url.port or (443 if url.scheme == "https" else 80)
    host = re.sub(r"[^A-Za-z0-9.-]", "-", url.hostname or "")
    return f"{url.scheme}_{host}_{port}"


def _checked_url(base_url: str | None, env: _Environment) -> str:
    setting = "BLUEJAY_API_URL" if base_url is None else "base_url"
    url, problem = _plain_url(base_url, env)
    if problem:
        remedy = f"write it like {DEFAULT_BASE_URL}; plain http is for localhost only, and the key goes elsewhere"
        raise ConfigurationError(setting, problem, remedy)
    return url


def _plain_url(base_url: str | None, env: _Environment) -> tuple[str, str]:
    """Return the URL and what is wrong with it; a wrong one is not quoted: it may hold a password, or be the key."""
    given: Any = env.get("BLUEJAY_API_URL") or "" if base_url is None else base_url
    if not isinstance(given, str) or "\0" in given:
        return "", "is not a URL"
    given = _bare(given) or (DEFAULT_BASE_URL if base_url is None else "")
    if re.search(r"[\x00-\x20\x7f]", given):
        return "", "is not a URL"
    try:
        url = urlsplit(given)
        host, _, _ = url.hostname, url.port, url.netloc.encode("idna")
    except ValueError:
        return "", "is not a URL"
    if url.username is not None or url.password is not None:
        return "", "holds a user name or password"
    if not host or url.scheme not in {"http", "https"} or url.query or url.fragment:
        return "", "is not a plain http(s) URL"
    if url.scheme == "http" and host not in LOOPBACK_HOSTS:
        return "", f"is plain http to {host!r}"
    return f"{url.scheme}://{url.netloc}{url.path.rstrip('/').removesuffix('/v1').rstrip('/')}", ""


def _database(spool: _Spool, env: _Environment) -> tuple[Secret | None, _Spool]:
    """Return the URL of a fleet's database, if the spool is one, and the directory to use beside it."""
    given = env.get("BLUEJAY_SPOOL") if spool in {None, True} else spool
    given = _bare(given) if isinstance(given, str) else given
    if not isinstance(given, str) or "://" not in given:
        return None, spool
    if not given.startswith(_DATABASES):  # as a directory's name it would show its password
        del given  # and so would a traceback with locals
        remedy = "write it like postgresql://user:password@host:5432/database, without a driver's name"
        raise ConfigurationError("spool", "is a URL, but not of PostgreSQL", remedy)
    directory = _bare(env.get("BLUEJAY_SPOOL_DIRECTORY") or "")
    if directory:
        return Secret(given), directory
    name = hashlib.sha256(given.rpartition("@")[2].encode()).hexdigest()[:12]  # not that of any other database
    return Secret(given), _default_spool(env).parent / "fleet" / name


def _spool_directory(spool: _Spool, env: _Environment) -> tuple[Path | None, str]:
    """Return the directory, and why there is none although one is wanted: a user without a home."""
    if spool is False:
        return None, ""
    if spool is not None and spool is not True:
        return _directory("spool", spool), ""
    given = _bare(env.get("BLUEJAY_SPOOL") or "")
    try:
        return (_directory("BLUEJAY_SPOOL", given) if given else _default_spool(env)), ""
    except ConfigurationError as error:
        if given and not given.startswith("~"):
            raise
        return None, str(error)


def _directory(setting: str, given: str | os.PathLike[str]) -> Path:
    """Return a path that stays the same when the process changes its directory."""
    remedy = "give the path of a directory on a local disk"
    try:
        text = os.fspath(given)
        if not text or "\0" in text:
            raise ConfigurationError(setting, "is empty" if not text else "holds a NUL", remedy)
        return Path(text).expanduser().absolute()
    except (TypeError, OSError) as error:
        raise ConfigurationError(setting, f"is no path ({type(error).__name__})", remedy) from None
    except RuntimeError:
        reason = "needs a home directory, and there is none"
        raise ConfigurationError(setting, reason, f"set BLUEJAY_SPOOL: {remedy}") from None
