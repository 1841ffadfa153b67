"""A Secret in the shapes that users know is understood; what is wrong with one is named by its key and never by its value."""

import base64
import json
from pathlib import Path

import pytest
from pinn_inference.artifacts.credentials import Credentials, Login, S3Keys
from pinn_inference.errors import ModelError


def docker(**auths: dict[str, str]) -> Credentials:
    return Credentials({".dockerconfigjson": json.dumps({"auths": auths})})


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_a_secret_is_read_as_it_is_mounted(tmp_path: Path) -> None:
    """The kubelet makes links to links, and folders whose names begin with two dots."""
    data = tmp_path / "..2026_11_22"
    data.mkdir()
    (tmp_path / "..data").symlink_to(data.name)
    (data / "token").write_text("abc\n")
    (tmp_path / "token").symlink_to("..data/token")
    assert Credentials.read(tmp_path).authorization() == "Bearer abc"


def test_no_secret_shows_nothing() -> None:
    none = Credentials.read(None)
    assert (none.authorization(), none.s3_keys(), none.registry("h", "r"), none.authority) == ("", None, None, "")


def test_a_folder_that_is_not_there_and_a_key_that_is_no_text_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"credentials in .*/absent cannot be read: No such file"):
        Credentials.read(tmp_path / "absent")
    (tmp_path / "token").write_bytes(b"\xff\xfe")
    with pytest.raises(ModelError, match=r"token in the Secret of spec\.model\.credentials is no text"):
        Credentials.read(tmp_path)


def test_a_user_and_a_password_are_basic_authentication() -> None:
    found = Credentials({"username": "alice\n", "password": "p:ä\n"}).authorization()
    assert found == "Basic " + b64("alice:p:ä")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"username": "hush"}, "only one of username and password"),
        ({"password": "hush"}, "only one of username and password"),
        ({"token": "hush\r\nx: y"}, "token .* control character"),
        ({"token": "hush hush"}, "characters that no token and no key has"),
        ({"token": "hushé"}, "characters that no token and no key has"),
    ],
)
def test_what_is_wrong_is_said_without_the_value(files: dict[str, str], said: str) -> None:
    with pytest.raises(ModelError, match=said) as refused:
        Credentials(files).authorization()
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize(
    ("access", "secret", "session"),
    [
        ("accessKeyId", "secretAccessKey", "sessionToken"),
        ("accessKeyID", "secretAccessKey", "sessionToken"),
        ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
    ],
)
def test_s3_keys_are_found_under_the_names_that_are_used(access: str, secret: str, session: str) -> None:
    assert Credentials({access: "a", secret: "s\n"}).s3_keys() == S3Keys("a", "s")
    assert Credentials({access: "a", secret: "s", session: "t"}).s3_keys() == S3Keys("a", "s", "t")
    with pytest.raises(ModelError, match="only one of accessKeyId and secretAccessKey"):
        Credentials({access: "a"}).s3_keys()


def test_a_secret_key_is_in_no_header_and_may_be_any_text() -> None:
    """MinIO takes such: it is signed with alone."""
    assert Credentials({"accessKeyId": "a", "secretAccessKey": "hu shé"}).s3_keys() == S3Keys("a", "hu shé")


@pytest.mark.parametrize("wrong", ["accessKeyId", "sessionToken"])
@pytest.mark.parametrize("value", ["hushé", "hu sh", "hu\u00a0sh"])
def test_s3_keys_that_no_header_field_can_carry_are_named(wrong: str, value: str) -> None:
    files = {"accessKeyId": "a", "secretAccessKey": "s", "sessionToken": "t", wrong: value}
    with pytest.raises(ModelError, match=rf"^{wrong} in the Secret .* has") as refused:
        Credentials(files).s3_keys()
    assert "hu" not in str(refused.value)


def test_keys_and_passwords_are_in_no_representation() -> None:
    assert "hush" not in repr((S3Keys("a", "hush", "hush"), Login("u", "hush")))


def test_a_registry_is_found_by_its_host() -> None:
    found = docker(**{"registry.example.com:5000": {"auth": b64("alice:p:w")}, "other": {"auth": b64("b:c")}})
    assert found.registry("registry.example.com:5000", "models/bs") == Login("alice", "p:w")


def test_a_registry_entry_may_have_user_and_password_apart() -> None:
    assert docker(r={"username": "alice", "password": "pw"}).registry("r", "m") == Login("alice", "pw")


@pytest.mark.parametrize("name", ["https://index.docker.io/v1/", "docker.io", "registry-1.docker.io"])
def test_docker_hub_has_many_names(name: str) -> None:
    assert docker(**{name: {"auth": b64("a:b")}}).registry("docker.io", "alice/bs") == Login("a", "b")


def test_organisations_of_docker_hub_have_logins_of_their_own() -> None:
    found = docker(
        **{
            "docker.io/alpha": {"auth": b64("alpha:x")},
            "https://index.docker.io/v1/": {"auth": b64("all:x")},
            "index.docker.io/beta": {"auth": b64("beta:x")},
        }
    )
    logins = [found.registry("docker.io", f"{name}/models") for name in ("alpha", "beta", "gamma")]
    assert logins == [Login("alpha", "x"), Login("beta", "x"), Login("all", "x")]


@pytest.mark.parametrize("other", ["v1/access-token", "v1/refresh-token", "v2/", ""])
@pytest.mark.parametrize("last", [False, True])
def test_what_docker_leaves_beside_a_login_does_not_replace_it(other: str, last: bool) -> None:
    beside = {"auth": b64("a:hush")} if other.endswith("token") else {}
    entries = {"https://index.docker.io/v1/": {"auth": b64("a:b")}, f"https://index.docker.io/{other}": beside}
    found = docker(**dict(sorted(entries.items(), key=lambda entry: entry[1] is beside, reverse=not last)))
    assert found.registry("docker.io", "alice/bs") == Login("a", "b")


def test_the_entry_that_names_most_of_the_repository_counts() -> None:
    found = docker(
        **{
            "gitlab.example.com": {"auth": b64("all:x")},
            "https://gitlab.example.com/group": {"auth": b64("group:x")},
            "gitlab.example.com/group/other": {"auth": b64("other:x")},
        }
    )
    assert found.registry("gitlab.example.com", "group/models") == Login("group", "x")
    assert found.registry("gitlab.example.com", "groups/models") == Login("all", "x")


def test_a_registry_without_an_entry_is_named_with_those_there_are() -> None:
    with pytest.raises(ModelError, match=r"has no entry for r\.example\.com; it has: a\.example, b\.example"):
        docker(**{"b.example": {"auth": b64("a:b")}, "a.example": {}}).registry("r.example.com", "m")


@pytest.mark.parametrize(
    "entry", [{}, {"auth": "!"}, {"auth": b64("hush")}, {"identitytoken": "hush"}, {"auth": "//79"}]
)
def test_an_entry_without_user_and_password_is_said(entry: dict[str, str]) -> None:
    with pytest.raises(ModelError, match="has no user and password for r; log in with both") as refused:
        docker(r=entry).registry("r", "m")
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize(
    "content",
    ["", "hush", "[]", "{}", '{"auths": 3}', '{"auths": {"r": "hush"}}', '{"hush": ' + "[" * 100_000],
    ids=range(7),
)
def test_a_docker_config_that_is_none_is_said(content: str) -> None:
    with pytest.raises(ModelError, match="is not what `kubectl create secret docker-registry` makes") as refused:
        Credentials({".dockerconfigjson": content}).registry("r", "m")
    assert "hush" not in str(refused.value)
