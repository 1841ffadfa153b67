"""A model in a container registry: an artefact whose layers are the model's files, as `oras push` makes it.

Every layer is named by its digest, and is fetched by it. Who asks is told by the registry where to get a token (the distribution
protocol, github.com/opencontainers/distribution-spec).
"""

import hashlib
import re
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit

import msgspec

from pinn_inference.artifacts import archive
from pinn_inference.artifacts.address import shown
from pinn_inference.artifacts.credentials import DOCKER_HUB, Credentials, Login
from pinn_inference.artifacts.download import Client, Question
from pinn_inference.errors import ModelError
from pinn_inference.formats import NOT_JSON

TITLE: Final = "org.opencontainers.image.title"
UNPACK: Final = "io.deis.oras.content.unpack"
"""By this a layer is the archive of a folder: the mark that `oras push FOLDER` gives it."""

MANIFESTS: Final = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
INDEXES: Final = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)

_DIGEST: Final = r"sha256:[0-9a-f]{64}"
_PART: Final = r"[a-z0-9]+(?:(?:[.]|__?|-+)[a-z0-9]+)*"
_ADDRESS: Final = re.compile(
    rf"oci://(?P<host>[^/@?#\s]+)/(?P<repository>{_PART}(?:/{_PART})*)"
    rf"(?::(?P<tag>[\w][\w.-]{{0,127}}))?(?:@(?P<digest>{_DIGEST}))?",
    re.ASCII,
)


class _Layer(msgspec.Struct, frozen=True, rename="camel"):
    digest: str
    size: int
    media_type: str = ""
    annotations: Mapping[str, str] | None = None

    def says(self, annotation: str) -> str:
        return (self.annotations or {}).get(annotation, "")


class _Manifest(msgspec.Struct, frozen=True, rename="camel"):
    media_type: str = ""
    layers: tuple[_Layer, ...] | None = None
    manifests: tuple[object, ...] | None = None


@dataclass(frozen=True)
class Repository:
    """What an address names."""

    host: str
    name: str
    reference: str
    digest: str

    def url(self, kind: str, which: str) -> str:
        """Of a manifest or a blob."""
        host = "registry-1.docker.io" if self.host in DOCKER_HUB else self.host
        return f"https://{host}/v2/{self.name}/{kind}/{which}"


class Token:
    """What a registry wants to be shown: it says so itself, by a challenge. A token is fetched anew when it is too old."""

    def __init__(self, client: Client, login: Login | None) -> None:
        self._client = client
        self._login = login
        self._field = ""

    def headers(self, url: str) -> Mapping[str, str]:
        """The token's field, once there is one."""
        return {"authorization": self._field} if self._field else {}

    def challenged(self, header: str) -> bool:
        """Gets what the challenge asks for. Raises ModelError when the token service refuses."""
        scheme, _, rest = header.strip().partition(" ")
        if scheme.lower() == "basic" and self._login and not self._field:
            self._field = self._login.basic
            return True
        if scheme.lower() != "bearer":
            return False
        self._field = f"Bearer {self._token(rest)}"
        return True

    def _token(self, challenge: str) -> str:
        try:
            asked = _parameters(challenge)
            realm = urlsplit(asked.get("realm", ""))
        except (IndexError, ValueError):  # a name with nothing behind it; an address that is none
            said = "says where in a way that cannot be read; look at the host in spec.model.uri"
            raise ModelError(f"the registry wants a token and {said}") from None
        if realm.scheme != "https":
            raise ModelError("the registry wants a token from an address that is not https; nothing is sent there")
        query = [*parse_qsl(realm.query), *((k, asked[k]) for k in ("service", "scope") if k in asked)]
        url = realm._replace(query=urlencode(query), fragment="").geturl()
        answer = self._client.read(Question(url, _Basic(self._login), moves=False))
        return _token_in(answer)


@dataclass(frozen=True)
class _Basic:
    login: Login | None

    def headers(self, url: str) -> Mapping[str, str]:
        return {"authorization": self.login.basic} if self.login else {}

    def challenged(self, header: str) -> bool:
        return False


def fetch(uri: str, into: Path, client: Client, credentials: Credentials) -> None:
    """The files of the artefact at oci://HOST/REPOSITORY:TAG or @sha256:DIGEST. Raises ModelError, naming the address."""
    where = parsed(uri)
    token = Token(client, credentials.registry(where.host, where.name))
    layers = _layers(uri, where, client, token)
    if sum(layer.size for layer in layers) > client.most:
        raise ModelError(f"{uri} {archive.too_large(client.most)}")
    room = archive.Room(into, client.most)
    for number, layer in enumerate(layers):
        place, packed = _place_of(layer, number, into)
        question = Question(where.url("blobs", layer.digest), token, unchanging=True)
        client.save(question, place, digest=layer.digest.removeprefix("sha256:"))
        if packed:
            _unpack(place, layer.says(TITLE) or layer.digest, room)


def parsed(uri: str) -> Repository:
    """The parts of an address. Raises ModelError for what is none."""
    found = _ADDRESS.fullmatch(uri)
    if found is None or not (found["tag"] or found["digest"]):
        raise ModelError(
            f"{shown(uri)!r} must be oci://HOST/REPOSITORY:TAG or oci://HOST/REPOSITORY@sha256:DIGEST, in small letters"
        )
    return Repository(found["host"], found["repository"], found["digest"] or found["tag"], found["digest"] or "")


def _layers(uri: str, where: Repository, client: Client, token: Token) -> tuple[_Layer, ...]:
    question = Question(where.url("manifests", where.reference), token, accept=", ".join(MANIFESTS + INDEXES))
    content = client.read(question)
    if where.digest and f"sha256:{hashlib.sha256(content).hexdigest()}" != where.digest:
        raise ModelError(f"{uri}: the registry answers with another manifest than the one of this digest")
    try:
        manifest = msgspec.json.decode(content, type=_Manifest)
    except NOT_JSON as error:
        raise ModelError(f"{uri}: the registry's manifest is not readable: {error}") from None
    if manifest.manifests is not None or manifest.media_type in INDEXES:
        raise ModelError(
            f"{uri} is an index of several artefacts; name one of them by oci://HOST/REPOSITORY@sha256:DIGEST"
        )
    _check(uri, manifest.layers or ())
    return manifest.layers or ()


def _check(uri: str, layers: tuple[_Layer, ...]) -> None:
    if not 0 < len(layers) <= archive.MOST_ENTRIES:
        raise ModelError(
            f"{uri} has {len(layers)} layers; push the model's files, as in `oras push REPOSITORY:TAG FILE...`"
        )
    for layer in layers:
        if not re.fullmatch(_DIGEST, layer.digest) or layer.size < 0:
            raise ModelError(f"{uri} has a layer without a sha256 digest and a size; push it again")


def _place_of(layer: _Layer, number: int, into: Path) -> tuple[Path, bool]:
    """Where a layer is put, and whether it is an archive that is unpacked there."""
    title = layer.says(TITLE)
    packed = not title or layer.says(UNPACK) == "true"
    return into / f".layer-{number}" if packed else _place(into, title), packed


def _place(into: Path, title: str) -> Path:
    try:
        path = archive.place(title)
    except ModelError as error:
        raise ModelError(f"the artefact {error}") from None
    if path is None or (into / path).exists():
        raise ModelError(f"the artefact holds {title[: archive.LONGEST]!r} twice, or as no name of a file")
    (into / path).parent.mkdir(parents=True, exist_ok=True)
    return into / path


def _unpack(layer: Path, said: str, room: archive.Room) -> None:
    try:
        archive.unpack(layer, room)
    except ModelError as error:
        raise ModelError(f"the layer {said[: archive.LONGEST]!r} {error}") from None
    finally:
        layer.unlink()


def _parameters(challenge: str) -> dict[str, str]:
    return urllib.request.parse_keqv_list([one for one in urllib.request.parse_http_list(challenge) if "=" in one])


def _token_in(answer: bytes) -> str:
    """The distribution protocol calls it `token`, OAuth 2.0 `access_token`."""
    try:
        found = msgspec.json.decode(answer, type=dict[str, object])
    except NOT_JSON:
        found = {}
    token = found.get("token") or found.get("access_token")
    if not isinstance(token, str) or not re.fullmatch("[!-~]+", token):
        raise ModelError("the registry's token service answers without a token")
    return token
