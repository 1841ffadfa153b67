"""Requests are signed as AWS documents it, and a folder of objects needs no right but that of reading them."""

import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest
import urllib3.util.connection
from pinn_inference.artifacts import folder as folders
from pinn_inference.artifacts import s3
from pinn_inference.artifacts.credentials import Credentials, S3Keys
from pinn_inference.artifacts.digest import MANIFEST
from pinn_inference.artifacts.download import Client, Limits, Refused
from pinn_inference.errors import ModelError

from .far import Asked, Reply, Shelf, Site, site

REQUIRED = (MANIFEST, folders.LITERT)
FILES = {f"/models/bs/1/{name}": name.encode() for name in folders.FILES}


def secret(at: Site, **more: str) -> Credentials:
    return Credentials({"accessKeyId": "AKID", "secretAccessKey": "hush", "endpoint": at.url, **more})


def client(certificate: Path) -> Client:
    return Client(Limits(1_000_000, 60), (certificate / "ca.crt").read_text())


def test_the_example_of_the_documentation_has_the_signature_it_should_have() -> None:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html, "Example: GET Object"."""
    keys = S3Keys("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
    url, now = "https://examplebucket.s3.amazonaws.com/test.txt", datetime(2013, 5, 24, tzinfo=UTC)
    found = s3.signature(url, keys, "us-east-1", now, {"range": "bytes=0-9"})["authorization"]
    assert found == (
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
        "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,"
        "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    )


def test_an_object_is_fetched_signed_and_by_its_path(certificate: Path, tmp_path: Path) -> None:
    with site(Shelf({"/models/a%20b/%2Bbs.tar": b"it"}), certificate) as there:
        s3.fetch("s3://models/a%20b/+bs.tar", tmp_path, client(certificate), secret(there, region="eu-west-1"))
    assert (tmp_path / "archive").read_bytes() == b"it"
    (said,) = there.fields("authorization")
    assert (said or "").startswith("AWS4-HMAC-SHA256 Credential=AKID/")
    assert "/eu-west-1/s3/aws4_request" in (said or "")


def test_a_temporary_key_shows_its_session(certificate: Path, tmp_path: Path) -> None:
    with site(Shelf({"/models/bs": b"it"}), certificate) as there:
        s3.fetch("s3://models/bs", tmp_path, client(certificate), secret(there, sessionToken="t"))
    assert there.fields("x-amz-security-token") == ["t"]
    assert "x-amz-security-token" in (there.fields("authorization")[0] or "")


def test_an_open_bucket_is_asked_without_a_signature(certificate: Path, tmp_path: Path) -> None:
    with site(Shelf({"/models/bs": b"it"}), certificate) as there:
        s3.fetch("s3://models/bs", tmp_path, client(certificate), Credentials({"endpoint": there.url}))
    assert there.fields("authorization") == [None]


def test_a_folder_is_fetched_file_by_file(certificate: Path, tmp_path: Path) -> None:
    with site(Shelf(FILES), certificate) as there:
        s3.fetch("s3://models/bs/1/", tmp_path, client(certificate), secret(there))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {n: n.encode() for n in folders.FILES}


@pytest.mark.parametrize("status", [403, 404])
def test_a_file_that_a_model_may_be_without_may_be_absent(certificate: Path, tmp_path: Path, status: int) -> None:
    """S3 answers 403 to those who may not list: so a right to list is not needed."""

    def answer(asked: Asked) -> Reply:
        return Shelf(FILES)(asked) if asked.path.endswith(REQUIRED) else Reply(status)

    with site(answer, certificate) as there:
        s3.fetch("s3://models/bs/1/", tmp_path, client(certificate), secret(there))
    assert {path.name for path in tmp_path.iterdir()} == set(REQUIRED)


def test_a_file_that_a_model_needs_may_not_be_absent(certificate: Path, tmp_path: Path) -> None:
    body = b"<Error><Code>AccessDenied</Code></Error>"
    with (
        site(lambda _: Reply(403, body), certificate) as there,
        pytest.raises(
            Refused, match=r"/models/bs/1/manifest\.json answers 403 \(AccessDenied\): not allowed; .*rights"
        ),
    ):
        s3.fetch("s3://models/bs/1/", tmp_path, client(certificate), secret(there))


def test_a_bucket_of_another_region_is_said_and_not_followed(certificate: Path, tmp_path: Path) -> None:
    body = b"<Error><Code>PermanentRedirect</Code></Error>"
    with (
        site(lambda _: Reply(301, body, {"location": "https://elsewhere.example/"}), certificate) as there,
        pytest.raises(Refused, match=r"answers 301 \(PermanentRedirect\)"),
    ):
        s3.fetch("s3://models/bs", tmp_path, client(certificate), secret(there))


def test_without_an_endpoint_it_is_that_of_the_region() -> None:
    bucket = s3._bucket("models", Credentials({"region": "eu-west-1"}))
    assert bucket.question("a").url == "https://s3.eu-west-1.amazonaws.com/models/a"
    assert s3._bucket("models", Credentials({})).endpoint == "https://s3.us-east-1.amazonaws.com"


@pytest.mark.parametrize("region", ["eu west", "EU-WEST-1", "münchen", "a/b", "us-east-1.evil.example"])
def test_a_region_that_is_none_is_said(region: str) -> None:
    with pytest.raises(
        ModelError, match=r"^region in the Secret .* is none: write it in small letters, as in eu-west-1"
    ):
        s3._bucket("models", Credentials({"region": region}))


@pytest.mark.parametrize(
    ("endpoint", "host"),
    [
        ("https://localhost", "localhost"),
        ("https://localhost:443", "localhost"),
        ("https://LOCALHOST:0443", "localhost"),
        ("https://localhost:", "localhost"),
        ("https://localhost:80", "localhost:80"),
        ("https://localhost:9000", "localhost:9000"),
        ("http://localhost:80", "localhost"),
        ("http://localhost:443", "localhost:443"),
        ("http://[::1]:80", "[::1]"),
        ("http://[::1]:9000", "[::1]:9000"),
    ],
)
def test_the_host_that_is_signed_is_the_one_that_is_sent(
    certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, endpoint: str, host: str
) -> None:
    """The signature is made anew of what came, as a server does."""
    shelf = Shelf({"/models/bs": b"it"})
    with site(shelf, certificate if endpoint.startswith("https") else None) as there:
        address = ("127.0.0.1", int(there.host.rpartition(":")[2]))
        monkeypatch.setattr(
            urllib3.util.connection, "create_connection", lambda *_, **__: socket.create_connection(address)
        )
        s3.fetch("s3://models/bs", tmp_path, client(certificate), secret(there, endpoint=endpoint))
    (asked,) = there.asked
    when = datetime.strptime(asked.headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    url = f"{there.scheme}://{asked.headers['host']}{asked.path}"
    assert asked.headers["host"] == host
    assert s3.signature(url, S3Keys("AKID", "hush"), "us-east-1", when).items() <= asked.headers.items()


@pytest.mark.parametrize(
    "endpoint",
    [
        "minio",
        "ftp://minio",
        "https://user:hush@minio",
        "https://minio/path",
        "https://",
        "https://:443",
        "https://[",
        "https://minio:port",
        "https://minio:65536",
    ],
)
def test_an_endpoint_that_is_none_is_said(endpoint: str) -> None:
    with pytest.raises(
        ModelError, match=r"endpoint in the Secret of spec\.model\.credentials is .*write https://HOST"
    ) as said:
        s3._bucket("models", Credentials({"endpoint": endpoint}))
    assert "hush" not in str(said.value)


@pytest.mark.parametrize(
    "uri", ["s3://bucket", "s3://bucket/", "s3:///key", "s3://b/k?v", "s3://b/k#v", "s3://b/a/../k"]
)
def test_an_address_that_is_none_is_said(uri: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"must be s3://BUCKET/KEY|give it another name"):
        s3.fetch(uri, tmp_path, Client(Limits(1, 1)), Credentials({}))


@pytest.mark.parametrize("region", ["RegionOne", "eu_central.2"])
def test_a_server_of_ones_own_calls_its_region_as_it_likes(region: str) -> None:
    endpoint = {"region": region, "endpoint": "https://minio.example.com:9000"}
    assert s3._bucket("models", Credentials(endpoint)).endpoint == "https://minio.example.com:9000"
    with pytest.raises(ModelError, match=r"^region in the Secret .* is none"):
        s3._bucket("models", Credentials({**endpoint, "region": "a/b"}))
