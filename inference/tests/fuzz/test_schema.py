"""Questions drawn from the server's own description, and their mutants, at every endpoint of both ports."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from pinn_inference.api import openapi
from pinn_inference.api.openapi import Offered
from pinn_inference.artifacts import manifest as manifests
from pinn_inference.problems.black_scholes import MOVES, SOLVABLE
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from .client import PATIENCE, SHARE, Client
from .conftest import TIMEOUT, TOKEN, Target

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
thorough = settings(
    max_examples=max(SHARE // 6, 20), deadline=None, database=None, suppress_health_check=list(HealthCheck)
)


MANIFEST = manifests.parse((Path(__file__).parents[3] / "models/black-scholes/2.0.0/manifest.json").read_bytes())
OFFERED = Offered(timeout=TIMEOUT, solver=SOLVABLE, moves=MOVES)
SERVICE = openapi.document(MANIFEST, OFFERED)
ADMIN = openapi.admin_document(MANIFEST, OFFERED)


def described(document: dict[str, Any]) -> Any:
    """The operations of a document, every call with the token; a list that is too long is refused with 413."""
    paths = {
        path: {method: {**operation, "security": []} for method, operation in methods.items()}
        for path, methods in document["paths"].items()
    }
    schema = schemathesis.openapi.from_dict({**document, "paths": paths})
    schema.config.checks.negative_data_rejection.expected_statuses = ["400", "413"]
    return schema


def test_the_server_describes_itself_as_it_is_tested_here(target: Target) -> None:
    assert Client(target.server.port).send("GET", "/openapi.json").json == json.loads(openapi.encoded(SERVICE))


@described(SERVICE).parametrize()  # type: ignore[untyped-decorator]
@thorough
def test_the_service_port_does_what_it_says(case: "Case[Any]", target: Target) -> None:
    case.call_and_validate(base_url=target.server.url, checks=CHECKS, timeout=PATIENCE)


@described(ADMIN).parametrize()  # type: ignore[untyped-decorator]
@thorough
def test_the_admin_port_does_what_it_says(case: "Case[Any]", target: Target) -> None:
    token = {"authorization": f"Bearer {TOKEN}"}
    # Some mutants of a query look like the original on the wire.
    checks = CHECKS if case.method == "POST" else CHECKS[:-1]
    case.call_and_validate(base_url=target.server.admin, checks=checks, timeout=PATIENCE, headers=token)


@pytest.mark.parametrize("port", ["url", "admin"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"])
def test_every_method_of_every_path_is_answered_or_refused(target: Target, port: str, method: str) -> None:
    client = Client(urlsplit(getattr(target.server, port)).port or 0)
    paths = {"url": SERVICE, "admin": ADMIN}[port]["paths"]
    for path in [*paths, "/", "/nowhere", "*", "//predict", "/predict/", "/PREDICT"]:
        got = client.send(method, path, b"{}")
        assert got.status < 500, (path, got)
        if method not in ("HEAD", "OPTIONS") and got.status >= 400:
            assert got.sentence
