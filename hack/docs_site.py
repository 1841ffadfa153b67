"""What MkDocs is told of this repository: the order of the pages, and what lies outside docs/.

The documents are read in the repository first, so links go where they go there. On the site the pages of the root folder become
pages too, and any other file that a page links to comes along as it is.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ROOT_PAGES = ("ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^)#\s]+)(#[^)\s]*)?(?=\))")
"""The target of a Markdown link that leads to a file, and its anchor."""
LISTED = re.compile(r"\]\(([^)#:\s]+\.md)\)")


def sections(index: str) -> list[tuple[str, list[str]]]:
    """The headings of docs/README.md, each with the files of the pages listed below it, every file once."""
    found: list[tuple[str, list[str]]] = []
    seen: set[str] = set(ROOT_PAGES)
    for part in re.split(r"^## ", index, flags=re.MULTILINE)[1:]:
        heading, _, text = part.partition("\n")
        files = dict.fromkeys(posixpath.normpath(file.removeprefix("../")) for file in LISTED.findall(text))
        found.append((heading.strip(), [file for file in files if file not in seen]))
        seen |= set(files)
    return found


def site_path(repository_path: str) -> str:
    """Where a file of the repository is on the site."""
    if repository_path == "README.md":
        return "start.md"
    return repository_path.removeprefix("docs/") if repository_path.startswith("docs/") else repository_path


def repository_path(site: str) -> str:
    """Where a page of the site is in the repository."""
    if site == "start.md":
        return "README.md"
    return site if site in ROOT_PAGES else f"docs/{site}"


def linked(page: str, target: str) -> str:
    """The repository path that a link on a page leads to. Both are paths; the page's is on the site."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(repository_path(page)), target))


def rewritten(page: str, markdown: str) -> str:
    """The page with its links as the site needs them."""

    def one(match: re.Match[str]) -> str:
        target = site_path(linked(page, match[1]))
        return posixpath.relpath(target, posixpath.dirname(page) or ".") + (match[2] or "")

    return LINK.sub(one, markdown)


# What MkDocs calls.


def on_config(config: Any) -> Any:
    listed = sections((ROOT / "docs/README.md").read_text())
    config["nav"] = [
        {"Start": ["start.md", "README.md"]},
        *({heading: files} for heading, files in listed if files),
        {"Project": list(ROOT_PAGES)},
    ]
    return config


def on_files(files: Any, config: Any) -> Any:
    from mkdocs.structure.files import File

    for site, source in (("start.md", "README.md"), *((name, name) for name in ROOT_PAGES)):
        files.append(File.generated(config, site, content=(ROOT / source).read_text()))
    outside = {
        linked(file.src_uri, target)
        for file in files.documentation_pages()
        for target, _ in LINK.findall(file.content_string)
    }
    for path in sorted(outside):
        if not path.startswith("docs/") and path not in (*ROOT_PAGES, "README.md") and (ROOT / path).is_file():
            files.append(File.generated(config, path, content=(ROOT / path).read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    return rewritten(page.file.src_uri, markdown)
