# Which files and names an image's cache key and archive depend on.
from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.cluster.errors import ClusterError
from tests.e2e.cluster.images import Request, copied_paths, full_name, request_key

DOCKERFILE = """\
ARG BASE_IMAGE=python:3.11-slim
FROM ${BASE_IMAGE} AS build
# COPY nothing /from/a/comment
COPY requirements/operator.txt \\
     requirements/extra.txt /src/
COPY --chown=65532:65532 ["operator", "/src/operator"]
FROM ${BASE_IMAGE}
COPY --from=build /venv /venv
"""


@pytest.mark.parametrize(
    ("tag", "full"),
    [
        ("python", "docker.io/library/python:latest"),
        ("pinn-operator/operator:0.1.0", "docker.io/pinn-operator/operator:0.1.0"),
        ("localhost/python:3.11", "localhost/python:3.11"),
        ("registry.example:5000/a", "registry.example:5000/a:latest"),
    ],
)
def test_names_are_completed_as_kubernetes_does(tag: str, full: str) -> None:
    assert full_name(tag) == full


def test_only_what_a_dockerfile_copies_from_its_context_counts() -> None:
    assert copied_paths(DOCKERFILE) == ["operator", "requirements/extra.txt", "requirements/operator.txt"]


@pytest.mark.parametrize("line", ["COPY ${WHAT} /x", "RUN --mount=type=bind,source=a,target=/a true"])
def test_the_whole_context_counts_where_the_paths_cannot_be_known(line: str) -> None:
    assert copied_paths(f"FROM x\n{line}\n") is None


def test_a_cache_mount_takes_nothing_from_the_context() -> None:
    assert copied_paths("FROM x\nRUN --mount=type=cache,target=/root/.cache pip install kopf\n") == []


def a_request(folder: Path) -> Request:
    (folder / "app").mkdir()
    (folder / "app" / "main.py").write_text("print(1)")
    (folder / "Dockerfile").write_text("FROM x\nCOPY app /app\n")
    return Request(folder / "Dockerfile", "a/b:1", folder)


def test_the_key_changes_with_copied_files_and_not_with_others(tmp_path: Path) -> None:
    request = a_request(tmp_path)
    before = request_key(request, "docker")
    (tmp_path / "README.md").write_text("not copied")
    assert request_key(request, "docker") == before
    (tmp_path / "app" / "main.py").write_text("print(2)")
    assert request_key(request, "docker") != before


def test_the_key_changes_with_build_arguments(tmp_path: Path) -> None:
    request = a_request(tmp_path)
    other = Request(request.dockerfile, request.tag, request.context, ("VERSION=2",))
    assert request_key(request, "docker") != request_key(other, "docker")


def test_a_copied_file_that_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM x\nCOPY absent /\n")
    with pytest.raises(ClusterError, match="absent"):
        request_key(Request(tmp_path / "Dockerfile", "a/b:1", tmp_path), "docker")
