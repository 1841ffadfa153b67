"""Fetches what lies at an https address, patiently but not for ever: a broken connection is taken up where it broke.

What is fetched is proven by its digest afterwards; this only has to bring it, within limits of size and time, without handing
anybody credentials that are not meant for them. Certificates are verified always; proxies are those of the environment.
"""

import hashlib
import io
import re
import ssl
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import SystemRandom
from typing import IO, Final, Protocol
from urllib.parse import unquote, urljoin, urlsplit

from urllib3 import BaseHTTPResponse, PoolManager, ProxyManager
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    LocationValueError,
    NameResolutionError,
    NewConnectionError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)
from urllib3.util import Timeout, make_headers

from pinn_inference import __version__
from pinn_inference.artifacts.address import shown
from pinn_inference.errors import ModelError

ATTEMPTS: Final = 6
"""In a row without getting on; with the pauses between them half a minute."""

PROGRESS: Final = 1024 * 1024
"""Bytes: an attempt that brought so many got on, so that a large model comes through a line that breaks often."""

PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds: the first pause, doubled each time, and the longest that a server may ask for by retry-after."""

CONNECT, SILENCE = 10.0, 30.0
"""Seconds for a connection to be made, and in which something has to come."""

REDIRECTS: Final = 5
CHUNK: Final = 64 * 1024
SMALL: Final = 4 * 1024 * 1024
"""Bytes of what is read into memory: a registry's manifest, a token."""

REMEDY: Final = "; the setting PINN_SERVER_MODEL_MAX_BYTES may allow a larger model"

TEMPORARY: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
MOVED: Final = frozenset({301, 302, 303, 307, 308})


class Auth(Protocol):
    """What a request carries so that it is answered."""

    def headers(self, url: str) -> Mapping[str, str]:
        """The fields for a request of `url`, made anew for every attempt."""

    def challenged(self, header: str) -> bool:
        """A server said 401 with this www-authenticate. True when the fields are other ones now."""


class Anonymous:
    """Nothing: what everybody may read."""

    def headers(self, url: str) -> Mapping[str, str]:
        """None."""
        return {}

    def challenged(self, header: str) -> bool:
        """There is nothing else to show."""
        return False


@dataclass(frozen=True)
class Limits:
    """Bytes of all that is fetched, and seconds for all of it."""

    most: int
    seconds: float


@dataclass(frozen=True)
class Question:
    """What to get. `auth` is shown to the server of `url` and to no other one, to which it may send us on."""

    url: str
    auth: Auth = field(default_factory=Anonymous)
    accept: str = "*/*"
    moves: bool = True
    """Whether redirects are followed."""

    unchanging: bool = False
    """Named by its digest: a part that comes later belongs to the parts before, though no ETag says so."""

    def __post_init__(self) -> None:
        """Raises ModelError when `url` is no address."""
        try:
            known = bool(_origin(self.url)[1])
        except ValueError:
            known = False
        if not known:
            raise ModelError(f"{shown(self.url)!r} is no address; correct spec.model.uri")

    @property
    def said(self) -> str:
        """As messages call it: a query may hold a signature."""
        return shown(self.url)


class Refused(ModelError):
    """A server answered, and not with what was asked for."""

    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(sentence)
        self.status = status


class Client:
    """For one fetch of a model: all its requests share the limits."""

    def __init__(
        self,
        limits: Limits,
        authority: str = "",
        pause: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`authority`: certificates (PEM) that are trusted beside the system's. Raises ModelError when they are none."""
        self._limits = limits
        self._left = limits.most
        self._pause = pause
        self._clock = clock
        self._end = clock() + limits.seconds
        self._context = _context(authority)
        self._managers: dict[str, PoolManager] = {}

    @property
    def most(self) -> int:
        """Bytes that may still be fetched."""
        return self._left

    def save(self, question: Question, path: Path, digest: str = "") -> None:
        """Into the file at `path`. Raises ModelError: refused, too large, too late, or not of the SHA-256 (hex) `digest`."""
        with path.open("wb+") as file:
            self._bring(_Transfer(question, file, self._left, REMEDY))
            self._left -= file.seek(0, io.SEEK_END)
            file.seek(0)
            if digest and hashlib.file_digest(file, "sha256").hexdigest() != digest:
                raise ModelError(f"{question.said} is not what it is called: its digest is another")

    def read(self, question: Question) -> bytes:
        """A small answer. Raises ModelError as `save` does."""
        found = io.BytesIO()
        self._bring(_Transfer(question, found, SMALL))
        return found.getvalue()

    def close(self) -> None:
        """Its connections."""
        for manager in self._managers.values():
            manager.clear()

    def _bring(self, transfer: "_Transfer") -> None:
        """Attempts until it is whole, or too many in a row came to nothing."""
        failures, best = 0, 0
        while True:
            try:
                self._attempt(transfer)
                return
            except _Broken as broken:
                failures = 1 if transfer.offset >= best + PROGRESS else failures + 1
                best = max(best, transfer.offset)
                if failures >= ATTEMPTS:
                    raise ModelError(
                        f"{transfer.question.said} cannot be fetched: {broken}; tried {failures} times"
                    ) from None
                self._rest(failures, broken, transfer.question)

    def _rest(self, failures: int, broken: "_Broken", question: Question) -> None:
        pause = PAUSE * 2 ** (failures - 1) * SystemRandom().uniform(0.5, 1)
        pause = min(max(pause, broken.after), LONGEST_PAUSE)
        if self._clock() + pause >= self._end:
            raise ModelError(f"{self._late(question)}: {broken}")
        self._pause(pause)

    def _attempt(self, transfer: "_Transfer") -> None:
        question = transfer.question
        for chances in (2, 1, 0):  # a registry's token may have been missing, then too old
            with self._answer(question, transfer.fields()) as (url, answer):
                if answer.status == 401 and chances and _shown_more(question, url, answer):
                    continue
                transfer.begins(url, answer)
                for chunk in self._chunks(answer, question):
                    transfer.takes(chunk)
                transfer.ends()
                return

    @contextmanager
    def _answer(self, question: Question, fields: Mapping[str, str]) -> Iterator[tuple[str, BaseHTTPResponse]]:
        """From wherever the server sends us."""
        url = question.url
        for _ in range(REDIRECTS + 1):
            own = question.auth.headers(url) if _origin(url) == _origin(question.url) else {}
            answer = self._asked(url, question, {**fields, **own})
            try:
                target = answer.headers.get("location")
                if target is None or answer.status not in MOVED or not question.moves:
                    yield url, answer
                    return
                url = _followed(url, target, question)
            finally:
                answer.close()
        raise ModelError(f"{question.said} is redirected more than {REDIRECTS} times")

    def _asked(self, url: str, question: Question, fields: Mapping[str, str]) -> BaseHTTPResponse:
        headers = {"user-agent": f"pinn-server/{__version__}", "accept-encoding": "identity", "accept": question.accept}
        left = self._remaining(question)
        with _trouble_said(url):
            return self._manager(url).request(
                "GET",
                url,
                headers={**headers, **fields},
                timeout=Timeout(connect=min(CONNECT, left), read=min(SILENCE, left)),
                preload_content=False,
                redirect=False,
                retries=False,
            )

    def _chunks(self, answer: BaseHTTPResponse, question: Question) -> Iterator[bytes]:
        with _trouble_said(question.url):
            while chunk := answer.read1(CHUNK, decode_content=False):
                self._remaining(question)
                yield chunk

    def _remaining(self, question: Question) -> float:
        left = self._end - self._clock()
        if left <= 0:
            raise ModelError(self._late(question))
        return left

    def _late(self, question: Question) -> str:
        limit = f"{self._limits.seconds:g} s (PINN_SERVER_MODEL_FETCH_TIMEOUT)"
        return f"{question.said} could not be fetched within {limit}"

    def _manager(self, url: str) -> PoolManager:
        proxy = _proxy(url)
        if proxy not in self._managers:
            self._managers[proxy] = self._made(proxy)
        return self._managers[proxy]

    def _made(self, proxy: str) -> PoolManager:
        if not proxy:
            return PoolManager(ssl_context=self._context)
        try:
            return self._through(proxy)
        except (HTTPError, ValueError, AssertionError):
            said = "is none that is known; write http://HOST:PORT"
            raise ModelError(f"the proxy of the environment, {shown(proxy)}, {said}") from None

    def _through(self, proxy: str) -> ProxyManager:
        parts = urlsplit(proxy)
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else None
        headers = make_headers(proxy_basic_auth=login)
        bare = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        return ProxyManager(bare, proxy_headers=headers, proxy_ssl_context=self._context, ssl_context=self._context)


class _Broken(Exception):
    """An attempt came to nothing, which the next one need not. `after`: seconds that the server asks for."""

    def __init__(self, sentence: str, after: float = 0.0) -> None:
        super().__init__(sentence)
        self.after = after


class _Transfer:
    """What has come so far, and whether the next part belongs to it."""

    def __init__(self, question: Question, file: IO[bytes], most: int, remedy: str = "") -> None:
        """`remedy`: what may be done about more than `most` bytes."""
        self.question = question
        self.offset = 0
        self._file = file
        self._most = most
        self._remedy = remedy
        self._etag = ""
        self._total: int | None = None

    def fields(self) -> dict[str, str]:
        """Of the next request: for the rest, where it is sure to be a rest of the same."""
        if not (self._etag or self.question.unchanging):
            self._from_the_start()
        if not self.offset:
            return {}
        condition = {"if-range": self._etag} if self._etag else {}
        return {"range": f"bytes={self.offset}-", **condition}

    def begins(self, url: str, answer: BaseHTTPResponse) -> None:
        """Looks at an answer's head. Raises _Broken or Refused where there is nothing to take from it."""
        if answer.status not in (200, 206):
            self._is_refused(url, answer)
        if answer.status == 206 and not self._continues(answer):
            self._from_the_start()
            raise _Broken("it changed while it was fetched")
        length = _number(answer.headers.get("content-length", ""))
        if answer.status == 200:
            self._from_the_start()
            self._total = length
            etag = answer.headers.get("etag", "")
            self._etag = "" if etag.startswith("W/") else etag
        if length is not None and self.offset + length > self._most:
            self._is_too_large()

    def takes(self, chunk: bytes) -> None:
        """The next bytes of it."""
        if self.offset + len(chunk) > self._most:
            self._is_too_large()
        self._file.write(chunk)
        self.offset += len(chunk)

    def ends(self) -> None:
        """Nothing more comes of this answer. Raises _Broken where that was not the end: a server may send less than the rest."""
        if self._total is not None and self.offset < self._total:
            raise _Broken("only a part of it came")

    def _from_the_start(self) -> None:
        self._file.seek(0)
        self._file.truncate()
        self.offset = 0

    def _continues(self, answer: BaseHTTPResponse) -> bool:
        found = re.fullmatch(r"bytes (\d{1,19})-\d{1,19}/(\d{1,19}|\*)", answer.headers.get("content-range", ""))
        same = answer.headers.get("etag", self._etag) == self._etag or self.question.unchanging
        if found is None or not int(found[1]) == self.offset > 0 or not same:
            return False
        self._total = self._total if found[2] == "*" else int(found[2])
        return True

    def _is_refused(self, url: str, answer: BaseHTTPResponse) -> None:
        if answer.status in (412, 416) and self.offset:
            self._from_the_start()
            raise _Broken("it changed while it was fetched")
        said = f"answers {answer.status}{_code(answer)}"
        if answer.status in TEMPORARY:
            after = answer.headers.get("retry-after", "")
            raise _Broken(said, float(after) if re.fullmatch(r"\d{1,5}", after) else 0.0)
        raise Refused(f"{shown(url)} {said}{_remedy(answer.status)}", answer.status)

    def _is_too_large(self) -> None:
        raise ModelError(f"{self.question.said} has more than {self._most} bytes{self._remedy}")


def _number(said: str) -> int | None:
    """Of bytes, where that is what a header field says."""
    return int(said) if said.isdecimal() and len(said) < 20 else None


def _shown_more(question: Question, url: str, answer: BaseHTTPResponse) -> bool:
    if _origin(url) != _origin(question.url):
        return False
    return question.auth.challenged(answer.headers.get("www-authenticate", ""))


def _remedy(status: int) -> str:
    if status == 401:
        return ": it wants credentials, or other ones than those of the Secret in spec.model.credentials"
    if status == 403:
        return ": not allowed; look at the rights of the credentials in spec.model.credentials, or at the address"
    if status in (404, 410):
        return ": there is nothing; correct spec.model.uri"
    return "; correct spec.model.uri"


def _code(answer: BaseHTTPResponse) -> str:
    """The one word by which S3 or a registry says what is wrong; nothing else of the answer is repeated."""
    try:
        body = answer.read(4096, decode_content=False)
    except (HTTPError, OSError):
        return ""
    found = re.search(rb'<Code>([A-Za-z]{1,50})</Code>|"code": ?"([A-Z_]{1,50})"', body)
    return f" ({(found[1] or found[2]).decode()})" if found else ""


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)


def _followed(url: str, target: str, question: Question) -> str:
    try:
        joined = urljoin(url, target)
        parts = urlsplit(joined)
        known = bool(parts.hostname) and parts.port != 0
    except ValueError:
        known = False
    if not known:
        raise ModelError(f"{question.said} is redirected to what is no address")
    if parts.scheme != "https" and not (parts.scheme == "http" == urlsplit(question.url).scheme):
        raise ModelError(f"{question.said} is redirected to {shown(joined)}, and only https is followed")
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="").geturl()


def _proxy(url: str) -> str:
    """The environment's (HTTPS_PROXY, NO_PROXY, ...) for this address; empty for none."""
    parts = urlsplit(url)
    proxies = urllib.request.getproxies()
    found = proxies.get(parts.scheme) or proxies.get("all") or ""
    if not found or urllib.request.proxy_bypass(parts.netloc.rpartition("@")[2]):
        return ""
    return found if "://" in found else f"http://{found}"


def _context(authority: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if authority:
        try:
            context.load_verify_locations(cadata=authority)
        except (ssl.SSLError, ValueError):
            raise ModelError("ca.crt of the Secret in spec.model.credentials is no certificate in PEM form") from None
    return context


@contextmanager
def _trouble_said(url: str) -> Iterator[None]:
    """What a network does, in words: _Broken, or ModelError where trying again is of no use."""
    try:
        yield
    except LocationValueError:
        raise ModelError(f"{shown(url)} is no address; correct spec.model.uri") from None
    except (HTTPError, OSError) as error:
        if untrusted := _untrusted(error):
            raise ModelError(
                f"the certificate of {urlsplit(url).netloc} is not trusted: {untrusted}; "
                "put that of its authority under ca.crt into the Secret of spec.model.credentials"
            ) from None
        raise _Broken(_words(error)) from None


def _untrusted(error: Exception) -> str:
    reason = error.args[0] if isinstance(error, SSLError) and error.args else error
    return reason.verify_message if isinstance(reason, ssl.SSLCertVerificationError) else ""


def _words(error: object) -> str:
    match error:
        case ProxyError():
            return f"the proxy of the environment cannot be used: {_words(error.original_error)}"
        case NameResolutionError():
            return "its name is not known to the DNS"
        case NewConnectionError():
            return f"no connection: {_words(error.__cause__)}"
        case ConnectTimeoutError():
            return "no connection in time"
        case ReadTimeoutError():
            return "nothing came for too long"
        case SSLError():
            return f"TLS failed: {_words(error.args[0] if error.args else None)}"
        case ssl.SSLError():
            return error.reason or "the connection broke off"
        case OSError():
            return error.strerror or str(error) or "the connection broke off"
    return "the connection broke off"
