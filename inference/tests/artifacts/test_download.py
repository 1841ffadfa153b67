"""A download comes whole through a bad line, ends by itself on one that is worse, and tells no stranger a secret."""

import base64
import hashlib
import os
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from pinn_inference.artifacts import download
from pinn_inference.artifacts.download import ATTEMPTS, PROGRESS, Anonymous, Auth, Client, Limits, Question, Refused
from pinn_inference.errors import ModelError

from .far import Asked, Reply, Shelf, Site, site

MIB = 1024 * 1024
CONTENT = os.urandom(3 * MIB)


class Pauses:
    """Takes no time, and remembers; its clock moves by the pauses alone."""

    def __init__(self) -> None:
        self.taken: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.taken.append(seconds)

    def clock(self) -> float:
        return sum(self.taken)


@dataclass(frozen=True)
class Shows:
    value: str

    def headers(self, url: str) -> Mapping[str, str]:
        return {"authorization": self.value}

    def challenged(self, header: str) -> bool:
        return False


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
def client(certificate: Path, pauses: Pauses) -> Client:
    return Client(Limits(16 * MIB, 300), (certificate / "ca.crt").read_text(), pauses, pauses.clock)


@dataclass(frozen=True)
class InParts:
    """A server that sends `most` bytes of a rest at a time; `total` is what it says instead of how much there is in all."""

    shelf: Shelf
    most: int
    total: str = ""

    def __call__(self, asked: Asked) -> Reply:
        reply = self.shelf(asked)
        if reply.status != 206:
            return reply
        start, body = int(asked.headers["range"][len("bytes=") : -1]), reply.body[: self.most]
        total = self.total or len(self.shelf.files[asked.path])
        return replace(
            reply,
            body=body,
            headers={**reply.headers, "content-range": f"bytes {start}-{start + len(body) - 1}/{total}"},
        )


def starts(there: Site) -> list[int]:
    """Where each part begins that was asked for."""
    return [int((wanted or "bytes=0-")[len("bytes=") : -1]) for wanted in there.fields("range")]


Fetch = Callable[..., bytes]


@pytest.fixture
def fetched(client: Client, tmp_path: Path) -> Fetch:
    def fetch(url: str, auth: Auth | None = None, digest: str = "", unchanging: bool = False) -> bytes:
        client.save(Question(url, auth or Anonymous(), unchanging=unchanging), tmp_path / "file", digest)
        return (tmp_path / "file").read_bytes()

    return fetch


def test_what_is_there_is_fetched(certificate: Path, fetched: Fetch) -> None:
    with site(Shelf({"/m": CONTENT}), certificate) as there:
        assert fetched(f"{there.url}/m", digest=hashlib.sha256(CONTENT).hexdigest()) == CONTENT
    assert there.fields("accept-encoding") == ["identity"]


# --- Bad lines -------------------------------------------------------------------------------------------------------


def test_a_connection_that_breaks_is_taken_up_where_it_broke(certificate: Path, fetched: Fetch, pauses: Pauses) -> None:
    with site(Shelf({"/m": CONTENT}, [MIB, 1000]), certificate) as there:
        assert fetched(f"{there.url}/m") == CONTENT
    first, second, third = (int((found or "bytes=0-")[6:-1]) for found in there.fields("range"))
    assert (first, len(pauses.taken)) == (0, 2)
    assert 0 < second <= MIB
    assert second <= third <= second + 1000
    assert there.fields("if-range") == [None, '"one"', '"one"']


def test_what_has_no_mark_to_be_known_by_again_is_fetched_from_the_start(certificate: Path, fetched: Fetch) -> None:
    for etag in ("", 'W/"weak"'):
        with site(Shelf({"/m": CONTENT}, [MIB], etag), certificate) as there:
            assert fetched(f"{there.url}/m") == CONTENT
        assert there.fields("range") == [None, None]


def test_what_is_named_by_its_digest_is_taken_up_without_a_mark(certificate: Path, fetched: Fetch) -> None:
    with site(Shelf({"/m": CONTENT}, [MIB], ""), certificate) as there:
        assert fetched(f"{there.url}/m", unchanging=True) == CONTENT
    assert there.fields("range")[1] is not None


@pytest.mark.parametrize("polite", [True, False])
def test_a_file_that_changed_meanwhile_is_never_put_together_of_two(
    certificate: Path, fetched: Fetch, polite: bool
) -> None:
    """A polite server sends all of the new one; another one its end, which the ETag gives away."""
    other = os.urandom(len(CONTENT))
    shelf = Shelf({"/m": CONTENT}, [MIB])

    def answer(asked: Asked) -> Reply:
        if "range" in asked.headers:
            shelf.files["/m"], shelf.etag = other, '"two"'
        headers = asked.headers if polite else {k: v for k, v in asked.headers.items() if k != "if-range"}
        return shelf(Asked(asked.path, headers))

    with site(answer, certificate) as there:
        assert fetched(f"{there.url}/m") == other


def test_a_rest_that_starts_elsewhere_than_asked_for_is_not_believed(certificate: Path, fetched: Fetch) -> None:
    def answer(asked: Asked) -> Reply:
        if "range" not in asked.headers:
            return Reply(200, CONTENT, {"etag": '"one"'}, cut=MIB if len(there.asked) == 1 else None)
        return Reply(206, CONTENT[5:], {"etag": '"one"', "content-range": f"bytes 5-{len(CONTENT) - 1}/{len(CONTENT)}"})

    with site(answer, certificate) as there:
        assert fetched(f"{there.url}/m") == CONTENT
    assert len(there.asked) == 3


def test_a_rest_that_comes_in_parts_is_put_together(certificate: Path, fetched: Fetch) -> None:
    """A server may send less than it is asked for (RFC 9110, 15.3.7)."""
    with site(InParts(Shelf({"/m": CONTENT}, [MIB // 2]), MIB), certificate) as there:
        assert fetched(f"{there.url}/m") == CONTENT
    first, *rest = starts(there)
    assert first == 0
    assert len(rest) >= 3
    assert rest == [rest[0] + MIB * i for i in range(len(rest))]


def test_parts_that_do_not_say_of_how_much_are_put_together_too(certificate: Path, fetched: Fetch) -> None:
    with site(InParts(Shelf({"/m": CONTENT}, [MIB // 2]), MIB, total="*"), certificate) as there:
        assert fetched(f"{there.url}/m") == CONTENT
    assert len(there.asked) >= 4


def test_parts_are_put_together_where_the_first_answer_did_not_say_how_much_there_is(fetched: Fetch) -> None:
    """It is chunked, and breaks off in the second chunk."""
    head = b'HTTP/1.1 200 OK\r\netag: "one"\r\ntransfer-encoding: chunked\r\n\r\n'
    chunks = b"10000\r\n" + CONTENT[:0x10000] + b"\r\n10000\r\n"
    with site(InParts(Shelf({"/m": CONTENT}), MIB), None) as there, _raw_server(head + chunks) as port:
        targets = iter([f"http://127.0.0.1:{port}/m"])
        with site(lambda _: Reply(302, headers={"location": next(targets, f"{there.url}/m")}), None) as here:
            assert fetched(f"{here.url}/m") == CONTENT
    assert starts(there) == [0x10000 + MIB * i for i in range(3)]


def test_a_server_whose_parts_bring_too_little_is_given_up(certificate: Path, fetched: Fetch) -> None:
    with (
        site(InParts(Shelf({"/m": CONTENT}, [MIB // 2]), 1000), certificate) as there,
        pytest.raises(ModelError, match="cannot be fetched: only a part of it came; tried 6 times"),
    ):
        fetched(f"{there.url}/m")
    assert len(there.asked) == ATTEMPTS


@pytest.mark.parametrize("said", ["", "bytes", "bytes {}", "bytes {}-", "bytes {}-9", "bytes {}-9/", "bytes */9"])
def test_a_part_that_does_not_say_which_it_is_is_not_believed(certificate: Path, fetched: Fetch, said: str) -> None:
    shelf = Shelf({"/m": CONTENT}, [MIB])

    def answer(asked: Asked) -> Reply:
        reply = shelf(asked)
        if reply.status == 200:
            return reply
        which = said.format(asked.headers["range"][len("bytes=") : -1])
        return replace(reply, headers={**reply.headers, "content-range": which})

    with site(answer, certificate) as there:
        assert fetched(f"{there.url}/m") == CONTENT
    first, second, third = there.fields("range")
    assert (first, third) == (None, None)
    assert second is not None


def test_a_server_that_promises_more_than_it_sends_is_not_believed(certificate: Path, fetched: Fetch) -> None:
    with (
        site(lambda _: Reply(200, CONTENT, length=len(CONTENT) + 1), certificate) as there,
        pytest.raises(ModelError, match=r"cannot be fetched: .*; tried 6 times"),
    ):
        fetched(f"{there.url}/m")


def test_what_is_not_what_its_digest_names_is_refused(certificate: Path, fetched: Fetch) -> None:
    with site(Shelf({"/m": CONTENT}), certificate) as there, pytest.raises(ModelError, match="its digest is another"):
        fetched(f"{there.url}/m", digest="0" * 64)


def test_a_server_that_is_busy_is_asked_again_when_it_says_so(
    certificate: Path, fetched: Fetch, pauses: Pauses
) -> None:
    busy = iter([Reply(503, headers={"retry-after": "7"}), Reply(429), Reply(500)])
    with site(lambda _: next(busy, Reply(200, b"it")), certificate) as there:
        assert fetched(f"{there.url}/m") == b"it"
    assert pauses.taken[0] == 7
    assert all(0 < pause <= 2 for pause in pauses.taken[1:])


def test_a_server_may_not_have_us_wait_for_ever(certificate: Path, fetched: Fetch, pauses: Pauses) -> None:
    with (
        site(lambda _: Reply(503, headers={"retry-after": "86400"}), certificate) as there,
        pytest.raises(ModelError, match=r"answers 503; tried 6 times|could not be fetched within 300 s"),
    ):
        fetched(f"{there.url}/m")
    assert max(pauses.taken) == download.LONGEST_PAUSE


def test_attempts_that_bring_nothing_are_counted(certificate: Path, fetched: Fetch, pauses: Pauses) -> None:
    with (
        site(lambda _: Reply(500), certificate) as there,
        pytest.raises(ModelError, match="answers 500; tried 6 times"),
    ):
        fetched(f"{there.url}/m")
    assert len(there.asked) == ATTEMPTS
    assert len(pauses.taken) == ATTEMPTS - 1


def test_a_line_that_breaks_often_gets_a_large_model_through_while_it_gets_on(
    certificate: Path, fetched: Fetch
) -> None:
    large = os.urandom(14 * MIB)
    with site(Shelf({"/m": large}, [PROGRESS + 65536] * 12), certificate) as there:
        assert fetched(f"{there.url}/m") == large
    assert len(there.asked) > ATTEMPTS


def test_a_server_that_breaks_at_the_same_byte_every_time_is_given_up(certificate: Path, fetched: Fetch) -> None:
    with (
        site(lambda _: Reply(200, CONTENT, cut=2 * MIB), certificate) as there,
        pytest.raises(ModelError, match="tried 6 times"),
    ):
        fetched(f"{there.url}/m")
    assert len(there.asked) <= ATTEMPTS + 1


# --- Limits ----------------------------------------------------------------------------------------------------------


def test_a_file_beyond_the_limit_is_refused_before_it_is_fetched(certificate: Path, tmp_path: Path) -> None:
    small = Client(Limits(MIB, 60), (certificate / "ca.crt").read_text())
    with (
        site(Shelf({"/m": CONTENT}), certificate) as there,
        pytest.raises(ModelError, match=r"more than 1048576 bytes; the setting PINN_SERVER_MODEL_MAX_BYTES"),
    ):
        small.save(Question(f"{there.url}/m"), tmp_path / "file")
    assert (tmp_path / "file").stat().st_size == 0


def test_a_file_that_does_not_say_how_long_it_is_ends_at_the_limit(certificate: Path, tmp_path: Path) -> None:
    """Chunked, without a length: only counting helps."""
    with _raw_server(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"10000\r\n" + b"x" * 65536) as port:
        small = Client(Limits(1000, 60))
        url = f"http://127.0.0.1:{port}/m"
        with pytest.raises(ModelError, match="more than 1000 bytes"):
            small.save(Question(url), tmp_path / "file")
    assert (tmp_path / "file").stat().st_size <= 1000


def test_what_is_read_into_memory_has_a_limit_that_no_setting_moves(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pinn_inference.artifacts.download.SMALL", 1000)
    client = Client(Limits(4 * MIB, 60), (certificate / "ca.crt").read_text())
    with (
        site(Shelf({"/m": CONTENT}), certificate) as there,
        pytest.raises(ModelError, match=r"has more than 1000 bytes$"),
    ):
        client.read(Question(f"{there.url}/m"))


def test_all_files_of_a_model_share_one_limit(certificate: Path, tmp_path: Path) -> None:
    client = Client(Limits(4 * MIB, 60), (certificate / "ca.crt").read_text())
    with site(Shelf({"/m": CONTENT}), certificate) as there:
        client.save(Question(f"{there.url}/m"), tmp_path / "file")
        with pytest.raises(ModelError, match="more than 1048576 bytes"):
            client.save(Question(f"{there.url}/m"), tmp_path / "file")


def test_a_server_that_falls_silent_is_left_at_the_time_limit(certificate: Path, tmp_path: Path) -> None:
    client = Client(Limits(MIB, 0.5), (certificate / "ca.crt").read_text())
    with (
        site(lambda _: Reply(200, b"x" * 1000, dawdles=True, cut=10), certificate) as there,
        pytest.raises(ModelError, match=r"could not be fetched within 0\.5 s \(PINN_SERVER_MODEL_FETCH_TIMEOUT\)"),
    ):
        client.save(Question(f"{there.url}/m"), tmp_path / "file")


# --- Redirects and secrets -------------------------------------------------------------------------------------------


def test_a_redirect_is_followed_and_credentials_stay_with_the_server_they_are_for(
    certificate: Path, fetched: Fetch
) -> None:
    with site(Shelf({"/m": b"it"}), certificate) as elsewhere:
        moved = Reply(302, headers={"location": f"{elsewhere.url}/m"})
        with site(
            lambda asked: Reply(307, headers={"location": "/n"}) if asked.path == "/m" else moved, certificate
        ) as here:
            assert fetched(f"{here.url}/m", Shows("Bearer secret")) == b"it"
    assert here.fields("authorization") == ["Bearer secret"] * 2
    assert elsewhere.fields("authorization") == [None]


def test_the_same_server_under_another_name_is_a_stranger(certificate: Path, fetched: Fetch) -> None:
    def answer(asked: Asked) -> Reply:
        return Reply(200, b"it") if asked.path == "/n" else Reply(301, headers={"location": f"{here.other_url}/n"})

    with site(answer, certificate) as here:
        assert fetched(f"{here.url}/m", Shows("Bearer secret")) == b"it"
    assert here.fields("authorization") == ["Bearer secret", None]


def test_after_a_broken_connection_the_way_is_asked_for_again(certificate: Path, fetched: Fetch) -> None:
    """The address that a registry sends us on to is signed, and good for minutes."""
    shelf = Shelf({"/signed-1": CONTENT, "/signed-2": CONTENT}, [MIB])
    count = iter(range(1, 9))

    def answer(asked: Asked) -> Reply:
        return shelf(asked) if asked.path != "/m" else Reply(302, headers={"location": f"/signed-{next(count)}"})

    with site(answer, certificate) as there:
        assert fetched(f"{there.url}/m") == CONTENT
    assert [asked.path for asked in there.asked] == ["/m", "/signed-1", "/m", "/signed-2"]


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("http://127.0.0.1:1/m", "redirected to http://127.0.0.1:1/m, and only https is followed"),
        ("file:///etc/passwd", "redirected to what is no address"),
        ("ftp://127.0.0.1/m", "only https is followed"),
        ("https://[bad/m", "redirected to what is no address"),
        ("https://127.0.0.1:99999999/m", "redirected to what is no address"),
    ],
)
def test_a_redirect_out_of_https_is_not_followed(certificate: Path, fetched: Fetch, target: str, said: str) -> None:
    with (
        site(lambda _: Reply(302, headers={"location": target}), certificate) as there,
        pytest.raises(ModelError, match=said.replace("[", r"\[")),
    ):
        fetched(f"{there.url}/m")
    assert len(there.asked) == 1


def test_a_circle_of_redirects_ends(certificate: Path, fetched: Fetch) -> None:
    with (
        site(lambda _: Reply(302, headers={"location": "/m"}), certificate) as there,
        pytest.raises(ModelError, match="redirected more than 5 times"),
    ):
        fetched(f"{there.url}/m")
    assert len(there.asked) == 6


@pytest.mark.parametrize("status", [401, 403, 404, 400, 418])
def test_a_refusal_is_final_names_the_remedy_and_never_the_query_or_the_answer(
    certificate: Path, fetched: Fetch, status: int
) -> None:
    body = b"<Error><Code>NoSuchKey</Code><Secret>hush</Secret></Error>"
    with site(lambda _: Reply(status, body), certificate) as there, pytest.raises(Refused) as refused:
        fetched(f"{there.url}/m?signature=hush", Shows("Bearer hush"))
    assert len(there.asked) == 1
    assert f"/m answers {status} (NoSuchKey)" in str(refused.value)
    assert "spec.model." in str(refused.value)
    assert "hush" not in str(refused.value)


# --- TLS, names, proxies ---------------------------------------------------------------------------------------------


def test_a_certificate_that_nobody_vouches_for_is_refused_at_once_with_the_remedy(
    certificate: Path, tmp_path: Path
) -> None:
    with (
        site(Shelf({"/m": b"it"}), certificate) as there,
        pytest.raises(ModelError, match=r"certificate of 127.0.0.1:\d+ is not trusted: self.signed.*under ca\.crt"),
    ):
        Client(Limits(MIB, 60)).save(Question(f"{there.url}/m"), tmp_path / "file")
    assert there.asked == []


def test_a_certificate_of_another_name_is_refused(certificate_of_another: Path, tmp_path: Path) -> None:
    client = Client(Limits(MIB, 60), (certificate_of_another / "ca.crt").read_text())
    with (
        site(Shelf({"/m": b"it"}), certificate_of_another) as there,
        pytest.raises(ModelError, match=r"is not trusted: .*mismatch"),
    ):
        client.save(Question(f"{there.url}/m"), tmp_path / "file")
    assert there.asked == []


def test_an_authority_that_is_no_certificate_is_refused() -> None:
    with pytest.raises(ModelError, match=r"ca\.crt of the Secret .* no certificate"):
        Client(Limits(MIB, 60), "no certificate")


def test_a_port_on_which_nobody_listens_is_said(fetched: Fetch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ModelError, match="cannot be fetched: no connection: Connection refused; tried 6 times"):
        fetched(f"https://127.0.0.1:{port}/m")


def test_a_name_that_nobody_knows_is_said(fetched: Fetch) -> None:
    with pytest.raises(ModelError, match="its name is not known to the DNS"):
        fetched("https://no-such-host.invalid/m")


@pytest.mark.parametrize("url", ["https://", "https://[bad/m", "https://a:99999999/m", "https:///m"])
def test_what_is_no_address_is_said(fetched: Fetch, url: str) -> None:
    with pytest.raises(ModelError, match=r"is no address; correct spec\.model\.uri"):
        fetched(url)


def test_the_proxy_of_the_environment_is_used_with_its_login_and_not_for_the_hosts_it_is_not_for(
    certificate: Path, fetched: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    with site(Shelf({"/m": b"it"}), certificate) as there, _Proxy() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:pass%20word@127.0.0.1:{proxy.port}")
        assert fetched(f"{there.url}/m") == b"it"
        monkeypatch.setenv("NO_PROXY", "localhost")
        assert fetched(f"{there.other_url}/m") == b"it"
    login = base64.b64encode(b"user:pass word").decode()
    assert proxy.heads == [(f"CONNECT {there.host}", f"proxy-authorization: basic {login}".lower())]


def test_a_proxy_that_refuses_is_said_without_its_password(
    certificate: Path, fetched: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _raw_server(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n") as port:
        monkeypatch.setenv("https_proxy", f"http://user:hush@127.0.0.1:{port}")
        with pytest.raises(ModelError, match=r"the proxy of the environment cannot be used: .*407") as refused:
            fetched("https://models.example.com/m")
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize(
    ("proxy", "said"),
    [
        ("socks5://127.0.0.1:1", "socks5://127.0.0.1:1"),
        ("http://[", r"http://\["),
        ("http://user:hush@[", r"http://\["),
        ("http://user:hush@proxy:port", "http://proxy:port"),
    ],
)
def test_a_proxy_that_is_none_or_of_an_unknown_kind_is_said(
    fetched: Fetch, monkeypatch: pytest.MonkeyPatch, proxy: str, said: str
) -> None:
    monkeypatch.setenv("https_proxy", proxy)
    with pytest.raises(ModelError, match=rf"proxy of the environment, {said}, is none"):
        fetched("https://models.example.com/m")


class _raw_server:
    """Answers every connection with these bytes, whatever is asked."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._socket = socket.create_server(("127.0.0.1", 0))

    def __enter__(self) -> int:
        threading.Thread(target=self._serve, daemon=True).start()
        return int(self._socket.getsockname()[1])

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(self._answer)
            except OSError:
                return


class _Proxy:
    """A CONNECT proxy, which notes what it was asked."""

    def __init__(self) -> None:
        self.heads: list[tuple[str, str]] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]

    def __enter__(self) -> "_Proxy":
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                inner, _ = self._socket.accept()
            except OSError:
                return
            lines = inner.recv(65536).decode().split("\r\n")
            login = next((line.lower() for line in lines if line.lower().startswith("proxy-auth")), "")
            self.heads.append((lines[0].rpartition(" ")[0], login))
            host, _, port = lines[0].split()[1].partition(":")
            outer = socket.create_connection((host, int(port)))
            inner.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            for a, b in ((inner, outer), (outer, inner)):
                threading.Thread(target=_pump, args=(a, b), daemon=True).start()


def _pump(one: socket.socket, other: socket.socket) -> None:
    try:
        while data := one.recv(65536):
            other.sendall(data)
        other.shutdown(socket.SHUT_WR)
    except OSError:
        pass
