"""An artefact comes out of a registry file by file, each proven by its digest, and a token is got where the registry says."""

import hashlib
import io
import json
import shutil
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pinn_inference.artifacts import archive, oci, remote
from pinn_inference.artifacts import digest as digests
from pinn_inference.artifacts.credentials import Credentials
from pinn_inference.artifacts.download import Client, Limits, Refused
from pinn_inference.artifacts.remote import Wish
from pinn_inference.errors import ModelError

from .far import Asked, Reply, Site, site

MODEL = {"manifest.json": b"{}", "model.tflite": b"graph" * 100, "weights.npz": b"w"}


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def tar_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@dataclass
class Registry:
    """A registry with one artefact, tagged 1; with `login`, tokens are handed out to that user only."""

    layers: list[tuple[bytes, dict[str, str]]]
    login: str = ""
    scheme: str = "Bearer"
    manifest: dict[str, Any] = field(default_factory=dict)
    tokens: int = 0
    good_for: int = 1000
    uses: int = 0
    blobs_elsewhere: str = ""
    at: Site | None = None

    def document(self) -> bytes:
        layers = [
            {"mediaType": "application/octet-stream", "digest": digest_of(c), "size": len(c), "annotations": a}
            for c, a in self.layers
        ]
        return json.dumps({"schemaVersion": 2, "layers": layers, **self.manifest}).encode()

    def __call__(self, asked: Asked) -> Reply:
        if asked.path.startswith("/token"):
            return self._token(asked)
        if self.scheme and not self._is_known(asked.headers.get("authorization", "")):
            assert self.at is not None
            where = f'realm="{self.at.url}/token?x=1",service="registry",scope="repository:models/bs:pull"'
            return Reply(401, headers={"www-authenticate": f"{self.scheme} {where}"})
        if "/manifests/" in asked.path:
            return Reply(200, self.document()) if asked.path.endswith(("/1", self.name)) else Reply(404)
        return self._blob(asked)

    @property
    def name(self) -> str:
        return digest_of(self.document())

    def _blob(self, asked: Asked) -> Reply:
        if self.blobs_elsewhere:
            return Reply(307, headers={"location": f"{self.blobs_elsewhere}{asked.path}"})
        found = [content for content, _ in self.layers if asked.path.endswith(digest_of(content))]
        return Reply(200, found[0]) if found else Reply(404)

    def _token(self, asked: Asked) -> Reply:
        if asked.headers.get("authorization", "") != self.login:
            return Reply(401, b'{"errors": [{"code":"UNAUTHORIZED"}]}')
        self.tokens, self.uses = self.tokens + 1, 0
        return Reply(200, json.dumps({"token": f"t{self.tokens}", "expires_in": 60}).encode())

    def _is_known(self, shown: str) -> bool:
        self.uses += 1
        expected = self.login if self.scheme == "Basic" else f"Bearer t{self.tokens}" if self.tokens else "none"
        return shown == expected and self.uses <= self.good_for


def titled(files: dict[str, bytes]) -> list[tuple[bytes, dict[str, str]]]:
    return [(content, {oci.TITLE: name}) for name, content in files.items()]


def fetched(registry: Registry, certificate: Path, into: Path, which: str = ":1", login: str = "") -> dict[str, bytes]:
    with site(registry, certificate) as there:
        registry.at = there
        auths = {there.host: {"username": login, "password": "hush"}} if login else {}
        secret = Credentials({".dockerconfigjson": json.dumps({"auths": auths})} if login else {})
        client = Client(Limits(1_000_000, 60), (certificate / "ca.crt").read_text())
        oci.fetch(f"oci://{there.host}/models/bs{which}", into, client, secret)
    return {str(p.relative_to(into)): p.read_bytes() for p in into.rglob("*") if p.is_file()}


def fetch_from(there: Site, certificate: Path, into: Path, which: str = ":1") -> None:
    client = Client(Limits(1_000_000, 60), (certificate / "ca.crt").read_text())
    oci.fetch(f"oci://{there.host}/models/bs{which}", into, client, Credentials({}))


ALICE = "Basic YWxpY2U6aHVzaA=="


def test_layers_with_titles_are_files(certificate: Path, tmp_path: Path) -> None:
    assert fetched(Registry(titled(MODEL), scheme=""), certificate, tmp_path) == MODEL


def test_an_artefact_is_found_by_its_digest(certificate: Path, tmp_path: Path) -> None:
    registry = Registry(titled(MODEL), scheme="")
    assert fetched(registry, certificate, tmp_path, f"@{registry.name}") == MODEL


def test_another_manifest_than_the_one_of_the_digest_is_refused(certificate: Path, tmp_path: Path) -> None:
    registry = Registry(titled(MODEL), scheme="")
    name = registry.name
    registry.manifest["annotations"] = {}

    def lies(asked: Asked) -> Reply:
        return Reply(200, registry.document())

    with (
        site(lies, certificate) as there,
        pytest.raises(ModelError, match="another manifest than the one of this digest"),
    ):
        fetch_from(there, certificate, tmp_path, f"@{name}")


def test_a_layer_that_is_not_what_its_digest_names_is_refused(certificate: Path, tmp_path: Path) -> None:
    registry = Registry(titled(MODEL), scheme="")

    def lies(asked: Asked) -> Reply:
        return registry(asked) if "/manifests/" in asked.path else Reply(200, b"evil")

    with site(lies, certificate) as there, pytest.raises(ModelError, match="its digest is another"):
        fetch_from(there, certificate, tmp_path)


def test_a_pushed_folder_and_the_layer_of_an_image_are_unpacked(certificate: Path, tmp_path: Path) -> None:
    packed = tar_of({f"bs/{name}": content for name, content in MODEL.items()})
    for number, annotations in enumerate(({oci.TITLE: "bs", oci.UNPACK: "true"}, {})):
        into = tmp_path / f"{number}"
        into.mkdir()
        found = fetched(Registry([(packed, annotations)], scheme=""), certificate, into)
        assert found == {f"bs/{name}": content for name, content in MODEL.items()}


# --- Tokens ----------------------------------------------------------------------------------------------------------


def test_everybody_gets_a_token_of_an_open_registry(certificate: Path, tmp_path: Path) -> None:
    registry = Registry(titled(MODEL))
    assert fetched(registry, certificate, tmp_path) == MODEL
    assert registry.at is not None
    (path,) = [asked.path for asked in registry.at.asked if asked.path.startswith("/token")]
    assert path == "/token?x=1&service=registry&scope=repository%3Amodels%2Fbs%3Apull"


def test_a_token_is_got_by_user_and_password_which_the_registry_itself_never_sees(
    certificate: Path, tmp_path: Path
) -> None:
    registry = Registry(titled(MODEL), login=ALICE)
    assert fetched(registry, certificate, tmp_path, login="alice") == MODEL
    assert registry.at is not None
    shown = {asked.path.split("?")[0]: asked.headers.get("authorization") for asked in registry.at.asked}
    assert shown.pop("/token") == ALICE
    assert set(shown.values()) == {"Bearer t1"}


def test_a_token_that_is_too_old_is_got_anew(certificate: Path, tmp_path: Path) -> None:
    registry = Registry(titled(MODEL), login=ALICE, good_for=2)
    assert fetched(registry, certificate, tmp_path, login="alice") == MODEL
    assert registry.tokens == 2


def test_basic_authentication_is_shown_where_it_is_asked_for(certificate: Path, tmp_path: Path) -> None:
    assert fetched(Registry(titled(MODEL), login=ALICE, scheme="Basic"), certificate, tmp_path, login="alice") == MODEL


@pytest.mark.parametrize("scheme", ["Bearer", "Basic", "Negotiate"])
def test_a_login_that_is_refused_is_said_with_the_remedy_and_asked_a_few_times_at_most(
    certificate: Path, tmp_path: Path, scheme: str
) -> None:
    registry = Registry(titled(MODEL), login=ALICE, scheme=scheme)
    with pytest.raises(
        Refused, match=r"answers 401.*: it wants credentials, or other ones .*spec\.model\.credentials"
    ) as said:
        fetched(registry, certificate, tmp_path, login="bob")
    assert registry.at is not None
    assert len(registry.at.asked) <= 3
    assert "hush" not in str(said.value)


def test_a_token_goes_to_the_registry_alone_and_not_where_blobs_are(certificate: Path, tmp_path: Path) -> None:
    store = Registry(titled(MODEL), scheme="")
    with site(store, certificate) as elsewhere:
        registry = Registry(titled(MODEL), login=ALICE, blobs_elsewhere=elsewhere.url)
        assert fetched(registry, certificate, tmp_path, login="alice") == MODEL
    assert set(elsewhere.fields("authorization")) == {None}


def test_a_stranger_that_asks_for_a_password_does_not_get_it(certificate: Path, tmp_path: Path) -> None:
    """Where a registry sends us on to, somebody says 401 and names an address for tokens: its own."""

    def asks(asked: Asked) -> Reply:
        challenge = f'Bearer realm="{elsewhere.url}/token",service="s",scope="x"'
        return Reply(401, headers={"www-authenticate": challenge})

    with site(asks, certificate) as elsewhere:
        registry = Registry(titled(MODEL), login=ALICE, blobs_elsewhere=elsewhere.url)
        with pytest.raises(Refused, match="answers 401"):
            fetched(registry, certificate, tmp_path, login="alice")
    assert elsewhere.fields("authorization") == [None]


@pytest.mark.parametrize("realm", ["http://127.0.0.1:1/token", "", "file:///etc/passwd"])
def test_a_password_is_not_sent_without_encryption(certificate: Path, tmp_path: Path, realm: str) -> None:
    reply = Reply(401, headers={"www-authenticate": f'Bearer realm="{realm}"'})
    with site(lambda _: reply, certificate) as there, pytest.raises(ModelError, match="an address that is not https"):
        fetch_from(there, certificate, tmp_path)


@pytest.mark.parametrize("challenge", ['realm="https://127.0.0.1/token",service=', "realm=", 'realm="https://["'])
def test_a_challenge_that_cannot_be_read_is_said(certificate: Path, tmp_path: Path, challenge: str) -> None:
    reply = Reply(401, headers={"www-authenticate": f"Bearer {challenge}"})
    with (
        site(lambda _: reply, certificate) as there,
        pytest.raises(ModelError, match="says where in a way that cannot"),
    ):
        fetch_from(there, certificate, tmp_path)
    assert len(there.asked) == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"{}",
        b"[]",
        b'{"token": 1}',
        b'{"token": "a\\r\\nb"}',
        b"<html>",
        b'{"token": "\xff"}',
        b'{"a":' + b"[" * 99_999,
    ],
    ids=range(8),
)
def test_a_token_service_that_talks_nonsense_is_said(certificate: Path, tmp_path: Path, answer: bytes) -> None:
    def talks(asked: Asked) -> Reply:
        if asked.path == "/token":
            return Reply(200, answer)
        return Reply(401, headers={"www-authenticate": f'Bearer realm="{there.url}/token"'})

    with site(talks, certificate) as there, pytest.raises(ModelError, match="token service answers without a token"):
        fetch_from(there, certificate, tmp_path)


# --- What artefacts can be -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("title", ["../evil", "/evil", "a/../../evil", "..", ".", "a\\b", "a\x00b"])
def test_a_title_that_leads_elsewhere_is_refused(certificate: Path, tmp_path: Path, title: str) -> None:
    into = tmp_path / "into"
    into.mkdir()
    with pytest.raises(ModelError, match="the artefact holds"):
        fetched(Registry([(b"evil", {oci.TITLE: title})], scheme=""), certificate, into)
    assert list(tmp_path.rglob("*")) == [into]


def packed_layers(certificate: Path, secret: Path, to: Path, *layers: dict[str, bytes]) -> None:
    """Fetches an artefact of these archives, of which 100,000 bytes may come out."""
    registry = Registry([(tar_of(files), {}) for files in layers], scheme="")
    with site(registry, certificate) as there:
        wish = Wish(f"oci://{there.host}/models/bs:1", digests.digest(MODEL), secret, Limits(100_000, 60))
        remote.fetch(wish, to)


def test_layers_that_are_too_large_together_are_refused(certificate: Path, secret: Path, tmp_path: Path) -> None:
    to = tmp_path / "to/model"
    layers = [{f"{number}": bytes(30_000)} for number in range(4)]
    packed_layers(certificate, secret, to, MODEL, *layers[:3])
    shutil.rmtree(to)
    with pytest.raises(
        ModelError,
        match=r"the layer 'sha256:\w+' has more than 100000 bytes unpacked; the setting PINN_SERVER_MODEL_MAX_BYTES",
    ):
        packed_layers(certificate, secret, to, MODEL, *layers)
    assert list((tmp_path / "to").iterdir()) == []


def test_layers_with_too_many_files_together_are_refused(
    certificate: Path, secret: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "MOST_ENTRIES", 5)
    layers = [{f"{number}/{name}": b"" for name in "abc"} for number in range(2)]
    with pytest.raises(ModelError, match="holds more than 5 files and folders"):
        packed_layers(certificate, secret, tmp_path / "to/model", *layers)
    assert list((tmp_path / "to").iterdir()) == []


def test_a_title_that_comes_twice_is_refused(certificate: Path, tmp_path: Path) -> None:
    layers = [(b"1", {oci.TITLE: "a"}), (b"2", {oci.TITLE: "./a"})]
    with pytest.raises(ModelError, match="twice"):
        fetched(Registry(layers, scheme=""), certificate, tmp_path)


def test_a_layer_without_a_title_that_is_no_archive_is_said(certificate: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"the layer 'sha256:\w+' is neither \.tar"):
        fetched(Registry([(b"x", {})], scheme=""), certificate, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        ({"layers": []}, "has 0 layers; push the model's files"),
        ({"layers": None}, "has 0 layers"),
        ({"layers": [{"digest": "md5:1", "size": 1}]}, "a layer without a sha256 digest and a size"),
        ({"layers": [{"digest": "sha256:" + "0" * 64, "size": -1}]}, "a layer without a sha256 digest and a size"),
        ({"layers": [{"digest": "sha256:" + "0" * 64, "size": 10**7}]}, "has more than 1000000 bytes"),
        ({"layers": [{"digest": "sha256:" + "0" * 64, "size": 1}] * 1001}, "has 1001 layers"),
        ({"layers": "x"}, "manifest is not readable"),
        ({"manifests": []}, "is an index of several artefacts"),
        ({"mediaType": oci.INDEXES[0]}, "is an index of several artefacts"),
    ],
)
def test_a_manifest_that_is_no_model_is_said(
    certificate: Path, tmp_path: Path, manifest: dict[str, Any], said: str
) -> None:
    with pytest.raises(ModelError, match=said):
        fetched(Registry([], scheme="", manifest=manifest), certificate, tmp_path)


@pytest.mark.parametrize("document", [b'{"mediaType": "\xff"}', b'{"manifests": [' + b"[" * 100_000], ids=range(2))
def test_a_manifest_that_is_no_json_is_said(certificate: Path, tmp_path: Path, document: bytes) -> None:
    with (
        site(lambda _: Reply(200, document), certificate) as there,
        pytest.raises(ModelError, match="manifest is not readable"),
    ):
        fetch_from(there, certificate, tmp_path)


def test_a_tag_that_is_not_there_is_said(certificate: Path, tmp_path: Path) -> None:
    with pytest.raises(
        Refused, match=r"/v2/models/bs/manifests/2 answers 404: there is nothing; correct spec\.model\.uri"
    ):
        fetched(Registry(titled(MODEL), scheme=""), certificate, tmp_path, ":2")


@pytest.mark.parametrize(
    "uri",
    [
        "oci://registry.example.com/models/bs",
        "oci://registry.example.com",
        "oci://registry.example.com/Models:1",
        "oci://registry.example.com/models@sha256:abc",
        "oci://user:pw@registry.example.com/models:1",
        "oci://registry.example.com/models/../x:1",
        "oci://registry.example.com/models:1?x",
    ],
)
def test_an_address_that_is_none_is_said(uri: str) -> None:
    with pytest.raises(ModelError, match="must be oci://HOST/REPOSITORY:TAG"):
        oci.parsed(uri)


def test_an_address_has_its_parts() -> None:
    digest = "sha256:" + "a" * 64
    assert oci.parsed("oci://r:5000/a/b-c:v1.0_x") == oci.Repository("r:5000", "a/b-c", "v1.0_x", "")
    assert oci.parsed(f"oci://r/a@{digest}") == oci.Repository("r", "a", digest, digest)
    assert oci.parsed(f"oci://r/a:1@{digest}").reference == digest
    assert (
        oci.parsed("oci://docker.io/alice/bs:1").url("blobs", "x") == "https://registry-1.docker.io/v2/alice/bs/blobs/x"
    )
