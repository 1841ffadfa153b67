"""The page: nothing from elsewhere, nothing a manifest could smuggle in, everything a reader needs."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from pinn_inference.api import docs, openapi
from pinn_inference.api.openapi import Offered
from pinn_inference.artifacts import manifest as manifests
from pinn_inference.artifacts.manifest import Field, Manifest

VOID = {"meta", "link", "input", "br", "img"}


@pytest.fixture
def shipped(models: Path) -> Manifest:
    return manifests.parse((models / "black-scholes/2.0.0/manifest.json").read_bytes())


class Seen(HTMLParser):
    """Which elements there are, what they load, and whether each is closed where it should be."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.inline: list[str] = []
        self.ids: list[str] = []
        self.scripts = 0
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.scripts += tag == "script"
        for name, value in attrs:
            if name in ("src", "href", "action", "data", "srcset"):
                self.loads.append(value or "")
            if name == "style" or name.startswith("on"):
                self.inline.append(name)
            if name == "id":
                self.ids.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def page(manifest: Manifest) -> str:
    return docs.page(manifest, Offered()).decode()


def test_nothing_is_loaded_from_elsewhere(shipped: Manifest) -> None:
    text = page(shipped)
    assert set(Seen(text).loads) == {"data:,", "openapi.json"}
    assert not re.search(r"@import|\burl\(|https?://(?!www\.w3\.org/2000/svg)", text)


def test_every_element_is_closed_and_every_name_is_there_once(shipped: Manifest) -> None:
    seen = Seen(page(shipped))
    assert seen.open == []
    assert len(seen.ids) == len(set(seen.ids))
    used = set(re.findall(r'\bat\("([a-z-]+)"\)|getElementById\("([a-z-]+)"\)', page(shipped)))
    assert {a or b for a, b in used} <= set(seen.ids)


def test_the_page_may_run_what_is_written_in_it_and_nothing_else(shipped: Manifest) -> None:
    content = docs.page(shipped, Offered())
    assert Seen(content.decode()).inline == []  # the policy would block it
    policy = dict(docs.headers(content))["content-security-policy"]
    script = content.decode().rsplit("<script>", 1)[1].split("</script>")[0]
    stated = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{stated}'" in policy
    assert "unsafe" not in policy
    for part in ("default-src 'none'", "connect-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"):
        assert part in policy


def test_no_text_of_a_manifest_becomes_markup(shipped: Manifest) -> None:
    evil = '</script><script>alert("1")</script><img src=x onerror=alert(2)>{{data}}'
    fields = (*shipped.inputs[1:6], Field(evil, evil, 0.0, 1.0), Field("k", evil, choices=(evil,)))
    manifest = msgspec.structs.replace(
        shipped, name=evil, description=evil, digest=evil, inputs=fields, outputs=(Field(evil, evil),),
        architecture={evil: evil}, tolerances={evil: 1.0},
    )  # fmt: skip
    seen = Seen(page(manifest))
    assert seen.scripts == Seen(page(shipped)).scripts
    assert seen.inline == []
    assert set(seen.loads) == {"data:,", "openapi.json"}


def test_a_reader_finds_ranges_errors_paths_and_limits(shipped: Manifest) -> None:
    text = page(shipped)
    for words in (
        "0.05 to 0.6",
        "0.5 to 2 × <code>strike</code>",
        f"{shipped.accuracy.served.largest['price']:.1e}",
        shipped.digest,
        "/predict",
        "10,000",
        "429",
    ):
        assert words in text
    assert "{{" not in text


def test_the_form_starts_with_a_question_the_model_answers(shipped: Manifest) -> None:
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', page(shipped))
    assert data
    assert json.loads(data[1])["example"] == openapi.example(shipped)
