"""What the site makes of the documents: pages in the order of docs/README.md, links that lead where they do in the repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from hack.docs_site import linked, rewritten, sections

ROOT = Path(__file__).parents[2]


def test_pages_are_listed_once_in_the_order_of_the_index_under_its_headings() -> None:
    index = """# Documents
Before all: [first](concepts/first.md).
## Concepts
- [Traffic](concepts/traffic.md): how a share is made
- [pinn-server](reference/server.md): commands; [its HTTP](reference/http-api.md): errors
## Decisions
- [0001](decisions/0001-one.md) One kind cluster everywhere
- again [Traffic](concepts/traffic.md)
"""
    assert sections(index) == [
        ("Concepts", ["concepts/traffic.md", "reference/server.md", "reference/http-api.md"]),
        ("Decisions", ["decisions/0001-one.md"]),
    ]


def test_every_page_is_listed_in_the_index() -> None:
    listed = {file for _, files in sections((ROOT / "docs/README.md").read_text()) for file in files}
    there = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")} - {"README.md"}
    assert there - listed == set()


@pytest.mark.parametrize(
    ("page", "target", "path"),
    [
        ("how-to/rollout.md", "../concepts/traffic.md", "docs/concepts/traffic.md"),
        ("README.md", "../SECURITY.md", "SECURITY.md"),
        ("SECURITY.md", "docs/how-to/install.md", "docs/how-to/install.md"),
        ("start.md", "docs/README.md", "docs/README.md"),
    ],
)
def test_a_link_leads_from_a_page_of_the_site_to_a_file_of_the_repository(page: str, target: str, path: str) -> None:
    assert linked(page, target) == path


def test_links_are_rewritten_for_the_site_and_nothing_else_is() -> None:
    page = "See [traffic](../concepts/traffic.md#order), [security](../../SECURITY.md), [it](https://example.com/a.md), `f(x)`."
    assert rewritten("how-to/rollout.md", page) == (
        "See [traffic](../concepts/traffic.md#order), [security](../SECURITY.md), [it](https://example.com/a.md), `f(x)`."
    )
