"""Writes what follows from the types: the CustomResourceDefinition and the reference page.

`python -m pinn_operator.api.generate` writes them, `--check` says which are out of date. Neither is edited by hand.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from pinn_operator.api import names
from pinn_operator.api.resource import PinnDeployment
from pinn_operator.api.rules import Rule
from pinn_operator.api.schema import DEFAULTS_OF_FIELDS, Schema, as_words, rendered, rules_of, schema_of

ROOT: Final = Path(__file__).parents[3]
CRD_FILE: Final = Path("crds") / f"{names.GROUP}_{names.PLURAL}.yaml"
CHART_FILE: Final = Path("charts/pinn-operator/files/crd.yaml")
"""A copy, since Helm reads nothing outside its chart, and Flux and Argo CD follow no links out of one."""
DOCS_FILE: Final = Path("docs/reference/crd.md")
LABELS: Final = {"app.kubernetes.io/name": "pinn-operator", "app.kubernetes.io/part-of": "pinn-operator"}
AGAIN: Final = "python -m pinn_operator.api.generate"

COLUMNS: Final = (
    ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status', "Whether the stable revision serves."),
    ("Stable", "string", ".status.stable.modelVersion", "The model version that was last promoted."),
    ("Canary", "string", ".status.canary.modelVersion", "The model version on its way."),
    ("Weight", "integer", ".status.canary.weight", "Percentage of the traffic that the canary gets."),
    ("Step", "string", ".status.rollout.step", "The step of the rollout."),
    ("Verdict", "string", ".status.rollout.verdict", "How the step stands."),
    ("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason', "Why it is ready or not."),
    ("Age", "date", ".metadata.creationTimestamp", ""),
)
WIDE_ONLY: Final = "Reason"


def crd() -> dict[str, Any]:
    """The CustomResourceDefinition."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": names.CRD_NAME, "labels": LABELS},
        "spec": {
            "group": names.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": names.KIND,
                "listKind": f"{names.KIND}List",
                "plural": names.PLURAL,
                "singular": names.SINGULAR,
                "shortNames": [names.SHORT_NAME],
                "categories": [names.CATEGORY],
            },
            "versions": [_version()],
        },
    }


def _version() -> dict[str, Any]:
    return {
        "name": names.VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": rendered(schema_of(PinnDeployment))},
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        },
        "selectableFields": [{"jsonPath": ".spec.model.name"}],
        "additionalPrinterColumns": [_column(*column) for column in COLUMNS],
    }


def _column(name: str, kind: str, path: str, description: str) -> dict[str, Any]:
    column: dict[str, Any] = {"name": name, "type": kind, "jsonPath": path}
    said = {"description": description} if description else {}
    return column | said | ({"priority": 1} if name == WIDE_ONLY else {})


class _Dumper(yaml.SafeDumper):
    """Without anchors: a reader should see each schema where it stands."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def crd_yaml() -> str:
    """The CustomResourceDefinition as a file."""
    dumped = yaml.dump(crd(), Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)
    return f"# Generated from operator/pinn_operator/api by `{AGAIN}`; do not edit.\n{dumped}"


# --- The reference page ----------------------------------------------------------------------------------------------

PAGE_HEAD: Final = f"""# PinnDeployment: every field

<!-- Generated from operator/pinn_operator/api by `{AGAIN}`; do not edit. -->

`{names.API_VERSION}`, kind `{names.KIND}`, short name `{names.SHORT_NAME}`. `kubectl explain pinn.spec` says the same
on a cluster, and `pinn-operator validate FILE` tells without one whether a manifest would be accepted.

Durations are written as in Go (`500ms`, `30m`, `1h30m`) or, where `Off` is not possible, in whole days (`1d`); memory
as a Kubernetes quantity (`256Mi`); shares as percentages (`0.1%`). There are no floating-point numbers. Write `"Off"`
in quotes: without them YAML reads a boolean.
"""


def docs() -> str:
    """The reference page."""
    return PAGE_HEAD + "".join(f"\n{section}" for section in _sections(schema_of(PinnDeployment)))


def _sections(root: Schema) -> Iterator[str]:
    yield f"## The object\n{_refusals(rules_of(root))}"
    for part in ("spec", "status"):
        yield from _section(part, root["properties"][part])


def _section(path: str, node: Schema) -> Iterator[str]:
    node = node.get("items", node)
    level = "###" if "." in path else "##"
    yield f"{level} {path}\n\n{_meaning(node)}\n\n{_table(node)}{_refused(node)}"
    for name, child in node["properties"].items():
        if _fields(child):
            yield from _section(f"{path}.{name}" + ("[]" if "items" in child else ""), child)


def _fields(node: Schema) -> Mapping[str, Schema]:
    fields: Mapping[str, Schema] = node.get("items", node).get("properties", {})
    return fields if all("description" in field for field in fields.values()) else {}


def _table(node: Schema) -> str:
    rows = [_row(name, child, name in node.get("required", ())) for name, child in node["properties"].items()]
    return "| field | type | default | meaning |\n|---|---|---|---|\n" + "".join(rows)


def _row(name: str, node: Schema, required: bool) -> str:
    return f"| `{name}` | {_kind(node)} | {_default(node, required)} | {_meaning(node)} |\n"


def _meaning(node: Schema) -> str:
    """The description without the default, which has its own column."""
    said: str = node["description"]
    return said.split(" Default: ")[0].removesuffix(f" {DEFAULTS_OF_FIELDS}").replace("|", "\\|")


def _default(node: Schema, required: bool) -> str:
    if required:
        return "required"
    if "default" not in node:
        return ""
    if _fields(node) and "items" not in node:
        return "its fields' own"
    return f"`{as_words(node['default'])}`"


def _kind(node: Schema) -> str:
    if "enum" in node:
        return " \\| ".join(f"`{value}`" for value in node["enum"])
    if named := [rule.kind for rule in rules_of(node) if rule.kind]:
        return named[0].replace('"Off"', "`Off`")
    if node["type"] == "array":
        return f"list of {_kind(node['items'])}s"
    if "additionalProperties" in node:
        return f"map of name to {_kind(node['additionalProperties'])}"
    return "time" if node.get("format") == "date-time" else str(node["type"])


def _refused(node: Schema) -> str:
    lists = [child for child in node["properties"].values() if child.get("type") == "array"]
    return _refusals([*rules_of(node), *(rule for child in lists for rule in rules_of(child))])


def _refusals(rules: Iterable[Rule]) -> str:
    sentences = "".join(f"- {rule.as_documented()}\n" for rule in rules)
    return f"\nRefused:\n\n{sentences}" if sentences else ""


# --- The command -----------------------------------------------------------------------------------------------------


def files() -> dict[Path, str]:
    """What is generated, by path from the root of the repository."""
    return {CRD_FILE: crd_yaml(), CHART_FILE: crd_yaml(), DOCS_FILE: docs()}


def stale(root: Path = ROOT) -> list[Path]:
    """The generated files that are not what the types say."""
    return [path for path, text in files().items() if not (root / path).is_file() or (root / path).read_text() != text]


def write(root: Path = ROOT) -> None:
    """Writes all of them."""
    for path, text in files().items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)


def main(arguments: list[str]) -> int:
    """Exit code 1 when `--check` finds a file out of date."""
    if "--check" not in arguments:
        write()
        return 0
    for path in (old := stale()):
        print(f"{path} is out of date; run: {AGAIN}", file=sys.stderr)
    return 1 if old else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
