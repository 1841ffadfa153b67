"""The reports of rollouts that are over: found by the history of the object, printed, checked against its hash, exported."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pinn_operator.plugin.kubectl import Kubectl, NotFound, Trouble
from pinn_operator.plugin.standing import Ended, Standing

CERTIFICATE, PAGE, HASH = "certificate.json", "report.md", "sha256"
LATEST: Final = "latest"


@dataclass(frozen=True, slots=True)
class Report:
    """A report as the cluster keeps it. `raw` is its ConfigMap as it was sent, which is what is checked."""

    ended: Ended
    raw: str

    @property
    def data(self) -> dict[str, str]:
        found: dict[str, str] = json.loads(self.raw).get("data") or {}
        return found

    def text(self, key: str) -> str:
        """What is kept under a key. Trouble where nothing is."""
        if key not in self.data:
            raise damaged(self.ended)
        return self.data[key]

    @property
    def document(self) -> dict[str, Any]:
        """The certificate. Trouble where it is no JSON object."""
        try:
            return dict(json.loads(self.text(CERTIFICATE)))
        except (RecursionError, TypeError, ValueError):
            raise damaged(self.ended) from None

    def page(self, *, made_again: bool = False) -> str:
        """As it is kept, or, there being none or on demand, as the certificate makes it: what is kept has no hash of its own."""
        if PAGE in self.data and not made_again:
            return self.data[PAGE]
        from pinn_operator.verify import page_of

        try:
            return page_of(self.document)
        except ValueError as error:
            return f"{error}; --json prints it\n"


def damaged(one: Ended) -> Trouble:
    """A report that is not as this release writes it."""
    how = f"kubectl pinn report NAME {one.revision} --verify"
    return Trouble(f"the report {one.report} is damaged or of another release; what is wrong with it: {how}")


def ended(found: Standing, which: str) -> Ended:
    """The last rollout of a revision, or the last of all. Trouble where there is none with a report."""
    if not found.history:
        raise Trouble(f"no rollout of {found.namespace}/{found.name} is over yet: there is no report")
    chosen = [one for one in found.history if which in (LATEST, one.revision, one.version, one.report)]
    if not chosen:
        there = ", ".join(f"{one.revision} ({one.version}, {one.outcome})" for one in found.history)
        raise Trouble(f'the history has no rollout "{which}"; there are: {there}', code=2)
    return _written(chosen[-1])


def _written(one: Ended) -> Ended:
    if not one.report:
        raise Trouble(f"the report of {one.revision} was refused when it was to be written; see the events")
    return one


def last_promotion(kubectl: Kubectl, found: Standing) -> Mapping[str, Any] | Trouble | None:
    """The certificate of the last rollout that was promoted, or why it cannot be read; None where none was promoted."""
    from pinn_operator.verify import is_of_the_form

    promoted = [one for one in found.history if one.outcome == "Promoted"]
    if not promoted:
        return None
    try:
        document = read(kubectl, found.namespace, _written(promoted[-1])).document
    except Trouble as trouble:
        return trouble
    return document if is_of_the_form(document) else damaged(promoted[-1])


def read(kubectl: Kubectl, namespace: str, one: Ended) -> Report:
    try:
        return Report(one, kubectl.text(f"/api/v1/namespaces/{namespace}/configmaps/{one.report}"))
    except NotFound:
        raise NotFound(f"the report {one.report} is gone: somebody has deleted the ConfigMap") from None


def checked(report: Report) -> tuple[list[str], bool]:
    """The lines of the check, and whether all is well. The hash is the one in the object's status."""
    from pinn_operator.verify import Verdict, verify_text

    lines = list(verify_text(report.ended.report, report.raw, report.ended.sha256 or None))
    return [line.text for line in lines], all(line.verdict is Verdict.GENUINE for line in lines)


def is_compared(report: Report) -> bool:
    """Whether the check compares the page that is kept: that of another release it cannot."""
    from pinn_operator.verify import is_of_this_release

    try:
        return is_of_this_release(report.document)
    except Trouble:
        return True


def export(report: Report, folder: Path, *, made_again: bool = False) -> list[Path]:
    """Three files: the certificate, the page, and its hash as `sha256sum --check` reads it."""
    name = report.ended.report
    texts = {
        f"{name}.json": report.text(CERTIFICATE),
        f"{name}.md": report.page(made_again=made_again),
        f"{name}.sha256": f"{report.text(HASH)}  {name}.json\n",
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in texts.items():
            (folder / file).write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise Trouble(f"--output: {folder} cannot be written: {error.strerror}", code=2) from None
    return [folder / file for file in texts]


def all_of(kubectl: Kubectl, found: Standing) -> Iterable[Report | Trouble]:
    """Every report of the history that should be there, or why it is not."""
    for one in found.history:
        if one.report:
            try:
                yield read(kubectl, found.namespace, one)
            except NotFound as error:
                yield error
