"""What a Secret holds that opens a private model: its files as Kubernetes mounts them, one a key.

They lie in the container that fetches and in no other. Nothing of them is ever printed; what is missing is named by its key.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from pinn_inference.errors import ModelError
from pinn_inference.formats import NOT_JSON

LARGEST: Final = 1024 * 1024
"""Bytes of a key: a Secret has no more in all."""

FIELD: Final = "the Secret of spec.model.credentials"
DOCKER: Final = ".dockerconfigjson"
DOCKER_HUB: Final = ("docker.io", "index.docker.io", "registry-1.docker.io")
TOKENS: Final = ("v1/access-token", "v1/refresh-token")
"""Where Docker Desktop keeps tokens of its own, beside the login."""


@dataclass(frozen=True)
class Login:
    """A user and a password, as HTTP's basic authentication has them."""

    user: str
    password: str = field(repr=False)

    @property
    def basic(self) -> str:
        """The value of an authorization field."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


@dataclass(frozen=True)
class S3Keys:
    """A pair of access keys, with the token of a session where they are temporary."""

    access: str
    secret: str = field(repr=False)
    session: str = field(default="", repr=False)


class _Entry(msgspec.Struct, frozen=True):
    auth: str = ""
    username: str = ""
    password: str = ""

    @property
    def login(self) -> Login | None:
        """What it holds, in one of two ways; None where that is no user with a password."""
        user, password = self.username, self.password
        if not user and self.auth:
            try:
                user, _, password = base64.b64decode(self.auth, validate=True).decode().partition(":")
            except (binascii.Error, UnicodeDecodeError):
                return None
        return Login(user, password) if user and password else None


class _DockerConfig(msgspec.Struct, frozen=True):
    auths: Mapping[str, _Entry]


class Credentials:
    """Of one Secret, or of none."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self._files = files

    @classmethod
    def read(cls, folder: Path | None) -> "Credentials":
        """From the folder it is mounted at. Raises ModelError when it is not there, or no text."""
        if folder is None:
            return cls({})
        try:
            files = sorted(path for path in folder.iterdir() if path.is_file())
            return cls({path.name: _text(path) for path in files})
        except OSError as error:
            raise ModelError(f"the credentials in {folder} cannot be read: {error.strerror or error}") from None

    @property
    def authority(self) -> str:
        """Certificates (PEM) to be trusted beside the system's."""
        return self._files.get("ca.crt", "")

    def one(self, *keys: str) -> str:
        """The value under the first of these keys that there is, without the line end of the file it came from."""
        for key in keys:
            if value := self._files.get(key, "").strip():
                if not value.isprintable():
                    raise ModelError(f"{key} in {FIELD} has a line break or another control character in it")
                return value
        return ""

    def authorization(self) -> str:
        """For an https server: of `token`, or of `username` and `password`; empty for none."""
        if token := self._plain("token"):
            return f"Bearer {token}"
        user, password = self._pair(("username",), ("password",))
        return Login(user, password).basic if user else ""

    def s3_keys(self) -> S3Keys | None:
        """For an S3 server; None for a bucket that everybody may read."""
        names = (("accessKeyId", "accessKeyID", "AWS_ACCESS_KEY_ID"), ("secretAccessKey", "AWS_SECRET_ACCESS_KEY"))
        if not all(self._pair(*names)):
            return None
        access, secret = self._plain(*names[0]), self.one(*names[1])  # which is in no header
        return S3Keys(access, secret, self._plain("sessionToken", "AWS_SESSION_TOKEN"))

    def registry(self, host: str, repository: str) -> Login | None:
        """For a registry, from the `.dockerconfigjson` that `kubectl create secret docker-registry` makes."""
        content = self._files.get(DOCKER)
        if content is None:
            return None
        entries = _by_place(_docker(content))
        found = [name for name in _prefixes(host, repository) if name in entries]
        if not found:
            said = ", ".join(sorted(entries)[:5]) or "none"
            raise ModelError(f"{DOCKER} in {FIELD} has no entry for {host}; it has: {said}")
        login = entries[found[0]].login
        if login is None:
            raise ModelError(f"{DOCKER} in {FIELD} has no user and password for {found[0]}; log in with both")
        return login

    def _plain(self, *keys: str) -> str:
        """As `one`, for what is sent as it is in a header field."""
        value = self.one(*keys)
        if not re.fullmatch("[!-~]*", value):
            said = "a space, or a letter beyond ASCII"
            raise ModelError(f"{keys[0]} in {FIELD} has characters that no token and no key has: {said}")
        return value

    def _pair(self, first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, str]:
        one, other = self.one(*first), self.one(*second)
        if bool(one) != bool(other):
            raise ModelError(f"{FIELD} has only one of {first[0]} and {second[0]}; both are needed")
        return one, other


def _text(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(LARGEST + 1)
    try:
        text = content.decode()
    except UnicodeDecodeError:
        text = ""
    if len(content) > LARGEST or (content and not text):
        raise ModelError(f"{path.name} in {FIELD} is no text")
    return text


def _docker(content: str) -> Mapping[str, _Entry]:
    try:
        return msgspec.json.decode(content, type=_DockerConfig).auths
    except NOT_JSON:
        raise ModelError(f"{DOCKER} in {FIELD} is not what `kubectl create secret docker-registry` makes") from None


def _by_place(entries: Mapping[str, _Entry]) -> dict[str, _Entry]:
    """Several names may be of one place; then one that opens it counts, not what another program left there."""
    found: dict[str, _Entry] = {}
    for name, entry in entries.items():
        place = _place(name)
        if place and (place not in found or entry.login):
            found[place] = entry
    return found


def _place(name: str) -> str:
    """`https://index.docker.io/v1/` and `docker.io` are the same place; empty for what is none."""
    bare = name.partition("://")[2] or name
    host, _, path = bare.strip("/").partition("/")
    if path in TOKENS:
        return ""
    host = DOCKER_HUB[0] if host in DOCKER_HUB else host
    return f"{host}/{path}" if path and path not in ("v1", "v2") else host


def _prefixes(host: str, repository: str) -> list[str]:
    """The repository, what it lies in, and the registry: the entry that names most of it counts."""
    host = DOCKER_HUB[0] if host in DOCKER_HUB else host
    parts = repository.split("/")
    return ["/".join((host, *parts[:count])) for count in range(len(parts), -1, -1)]
