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
    ],
)
def test_what_this_release_serves_is_not_complained_about(uri: str) -> None:
    assert complaint_about(location_of(uri)) is None


@pytest.mark.parametrize("uri", ["https://h/p", "s3://b/k", "oci://r:t"])
def test_a_source_of_a_later_release_is_named_with_those_there_are(uri: str) -> None:
    said = complaint_about(location_of(uri)) or ""
    assert f"not from {uri.split(':')[0]}://" in said
    assert all(f"{scheme}://" in said for scheme in SUPPORTED)


@pytest.mark.parametrize("path", ["..", "../other", "a/../../b", "a/%2e%2e/%2E%2E/b", "a/..%2f..%2fb"])
def test_a_path_cannot_leave_its_claim(path: str) -> None:
    assert (
        complaint_about(location_of(f"pvc://models/{path}")) == "the path leads out of the claim; write it without .."
    )


@pytest.mark.parametrize("uri", ["pvc://models/a?b", "pvc://models/a#b", "file:///a?b"])
def test_a_path_that_a_uri_would_cut_short_is_refused(uri: str) -> None:
    assert "%3F" in (complaint_about(location_of(uri)) or "")
