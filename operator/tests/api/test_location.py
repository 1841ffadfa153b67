"""Addresses of models: what is mounted, and which are refused before anything is made."""

import pytest
from pinn_operator.api.location import SUPPORTED, Location, complaint_about, location_of


@pytest.mark.parametrize(
    ("uri", "location"),
    [
        ("builtin://", Location("builtin")),
        ("file:///srv/m", Location("file", path="/srv/m")),
        ("configmap://bs-1.0.0", Location("configmap", "bs-1.0.0")),
        ("pvc://models/bs/1.0.0", Location("pvc", "models", "bs/1.0.0")),
        ("s3://bucket/key", Location("s3", path="bucket/key")),
        ("https://h/p?v=1", Location("https", path="h/p?v=1")),
    ],
)
def test_an_address_has_a_scheme_a_name_and_a_path(uri: str, location: Location) -> None:
    assert location_of(uri) == location


@pytest.mark.parametrize(
    "uri",
    [
        "builtin://",
        "file:///srv/m",
        "configmap://bs",
        "pvc://models/bs",
        "pvc://models/.",
        "pvc://m/a..b",
        "pvc://m/%3F",
        "https://models.example.com/bs.tar.gz?version=1",
        "s3://bucket/key%3F",
        "s3://bucket/folder/",
        "oci://registry.example.com:5000/models/bs:1.0.0",
        "oci://registry.example.com/bs@sha256:" + "a" * 64,
        "oci://registry.example.com/bs:1@sha256:" + "a" * 64,
    ],
)
def test_what_this_release_serves_is_not_complained_about(uri: str) -> None:
    assert complaint_about(location_of(uri)) is None


@pytest.mark.parametrize("uri", ["http://h/p", "gs://b/k"])
def test_a_source_of_a_later_release_is_named_with_those_there_are(uri: str) -> None:
    said = complaint_about(location_of(uri)) or ""
    assert f"not from {uri.split(':')[0]}://" in said
    assert all(f"{scheme}://" in said for scheme in SUPPORTED)


@pytest.mark.parametrize("path", ["..", "../other", "a/../../b", "a/%2e%2e/%2E%2E/b", "a/..%2f..%2fb"])
def test_a_path_cannot_leave_its_claim(path: str) -> None:
    assert (
        complaint_about(location_of(f"pvc://models/{path}")) == "the path leads out of the claim; write it without .."
    )


@pytest.mark.parametrize(
    "uri", ["pvc://models/a?b", "pvc://models/a#b", "file:///a?b", "s3://b/a?versionId=1", "s3://b/a#b"]
)
def test_a_path_that_a_uri_would_cut_short_is_refused(uri: str) -> None:
    assert "%3F" in (complaint_about(location_of(uri)) or "")


def test_a_fragment_is_no_part_of_what_is_asked_for() -> None:
    assert complaint_about(location_of("https://h/p#x")) == "an address to fetch has no #; write %23"


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    said = complaint_about(location_of("https://alice:hush@h/p")) or ""
    assert "name it in model.credentials" in said
    assert "hush" not in said


@pytest.mark.parametrize("uri", ["oci://h/bs", "oci://h:5000/models/bs", "oci://h/bs@md5:1"])
def test_an_artefact_without_tag_and_digest_is_refused(uri: str) -> None:
    assert "named by its tag or its digest" in (complaint_about(location_of(uri)) or "")
