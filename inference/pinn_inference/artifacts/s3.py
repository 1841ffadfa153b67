"""A model in a bucket of Amazon S3 or of what speaks its protocol: one archive, or the folder's files under a prefix.

Requests are signed here (AWS Signature Version 4, one page) rather than by AWS's client. That is tens of megabytes, and what it
would add, credentials of a node or a service account, is nothing that a container which opens others' files should have.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from pinn_inference.artifacts import folder as folders
from pinn_inference.artifacts.address import shown
from pinn_inference.artifacts.credentials import FIELD, Credentials, S3Keys
from pinn_inference.artifacts.digest import MANIFEST
from pinn_inference.artifacts.download import Anonymous, Auth, Client, Question, Refused
from pinn_inference.errors import ModelError

ALGORITHM: Final = "AWS4-HMAC-SHA256"
NO_BODY: Final = hashlib.sha256(b"").hexdigest()
DEFAULT_REGION: Final = "us-east-1"
UNRESERVED_PATH: Final = "/-_.~"
PORTS: Final = {"https": 443, "http": 80}


@dataclass(frozen=True)
class Bucket:
    """A bucket and how to reach it: by its path on `endpoint`, which every S3 server understands."""

    name: str
    endpoint: str
    auth: Auth

    def question(self, key: str) -> Question:
        """For the object of this key."""
        path = quote(f"/{self.name}/{key}", safe=UNRESERVED_PATH)
        return Question(self.endpoint + path, self.auth, moves=False)


@dataclass(frozen=True)
class Signed:
    """Signs every request anew: a signature is good for a quarter of an hour."""

    keys: S3Keys
    region: str

    def headers(self, url: str) -> Mapping[str, str]:
        """The fields that sign a GET of `url`."""
        return signature(url, self.keys, self.region, datetime.now(UTC))

    def challenged(self, header: str) -> bool:
        """S3 says all it wants beforehand."""
        return False


def fetch(uri: str, into: Path, client: Client, credentials: Credentials) -> None:
    """What lies at s3://BUCKET/KEY: KEY/ with its slash is a folder of which each file is an object, another KEY an archive.

    Raises ModelError, naming the address and what S3 said.
    """
    name, key = _parts(uri)
    bucket = _bucket(name, credentials)
    if not key.endswith("/"):
        client.save(bucket.question(key), into / "archive")
        return
    client.save(bucket.question(key + MANIFEST), into / MANIFEST)
    for file in folders.OPTIONAL:
        _save_if_there(client, bucket.question(key + file), into / file)


def signature(
    url: str, keys: S3Keys, region: str, now: datetime, more: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The header fields that sign a GET of `url`, which has no query; `more` are fields that are signed too.

    https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
    """
    parts, moment = urlsplit(url), f"{now:%Y%m%dT%H%M%SZ}"
    fields = {"host": parts.netloc, "x-amz-content-sha256": NO_BODY, "x-amz-date": moment, **(more or {})}
    if keys.session:
        fields["x-amz-security-token"] = keys.session
    lines = "".join(f"{name}:{fields[name]}\n" for name in sorted(fields))
    names = ";".join(sorted(fields))
    asked = f"GET\n{parts.path}\n\n{lines}\n{names}\n{NO_BODY}"
    scope = f"{moment[:8]}/{region}/s3/aws4_request"
    text = f"{ALGORITHM}\n{moment}\n{scope}\n{hashlib.sha256(asked.encode()).hexdigest()}"
    signed = _hmac(_key(keys.secret, scope), text).hex()
    said = f"{ALGORITHM} Credential={keys.access}/{scope},SignedHeaders={names},Signature={signed}"
    return {**{name: value for name, value in fields.items() if name != "host"}, "authorization": said}


def _parts(uri: str) -> tuple[str, str]:
    bucket, slash, path = uri.removeprefix("s3://").partition("/")
    key = unquote(path)
    if not (bucket and slash and key) or {"?", "#"} & set(path):
        raise ModelError(f"{shown(uri)!r} must be s3://BUCKET/KEY; write ? as %3F and # as %23")
    if {".", ".."} & set(key.split("/")):
        raise ModelError(
            f"{shown(uri)!r}: a key with . or .. between slashes cannot be asked for over HTTP; give it another name"
        )
    return bucket, key


def _bucket(name: str, credentials: Credentials) -> Bucket:
    endpoint = credentials.one("endpoint", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL").rstrip("/")
    region = _region(credentials, "[A-Za-z0-9._-]+" if endpoint else "[a-z0-9-]+")
    keys = credentials.s3_keys()
    auth = Signed(keys, region) if keys else Anonymous()
    return Bucket(name, _endpoint(endpoint) if endpoint else f"https://s3.{region}.amazonaws.com", auth)


def _region(credentials: Credentials, form: str) -> str:
    """Amazon's is a part of its address; another server may call its own as it likes."""
    region = credentials.one("region", "AWS_REGION", "AWS_DEFAULT_REGION") or DEFAULT_REGION
    if not re.fullmatch(form, region):
        raise ModelError(f"region in {FIELD} is none: write it in small letters, as in eu-west-1")
    return region


def _endpoint(said: str) -> str:
    """In small letters and without a port that goes without saying: HTTP leaves it out of the host, which is signed."""
    try:
        parts = urlsplit(said.lower())
        usual = parts.port in (None, PORTS.get(parts.scheme))
    except ValueError:
        raise ModelError(f"endpoint in {FIELD} is no address: write https://HOST or https://HOST:PORT") from None
    plain = not (parts.path or parts.query or parts.fragment or "@" in parts.netloc)
    if parts.scheme not in PORTS or not parts.hostname or not plain:
        raise ModelError(
            f"endpoint in {FIELD} is {parts.scheme}://{parts.hostname}...: write https://HOST or https://HOST:PORT"
        )
    return f"{parts.scheme}://{re.sub(r':[0-9]*$', '', parts.netloc) if usual else parts.netloc}"


def _save_if_there(client: Client, question: Question, path: Path) -> None:
    """Who may not list a bucket is answered 403 for what is not there. A file that is left out wrongly, the digest will tell."""
    try:
        client.save(question, path)
    except Refused as refused:
        if refused.status not in (403, 404):
            raise
        path.unlink()


def _key(secret: str, scope: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = _hmac(key, part)
    return key


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
