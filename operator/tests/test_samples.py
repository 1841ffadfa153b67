"""The samples say what is so: a digest in them is that of the model they name."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "manifests/samples/from-a-configmap.yaml"


def _sample() -> tuple[str, dict[str, Any]]:
    text = SAMPLE.read_text()
    return text, yaml.safe_load(text)


def test_the_config_map_of_the_sample_is_made_from_the_model_whose_digest_it_states() -> None:
    text, sample = _sample()
    command = re.search(r"kubectl create configmap (\S+) --from-file=(\S+)", text)
    assert command is not None
    model, folder = sample["spec"]["model"], ROOT / command[2]
    assert model["uri"] == f"configmap://{command[1]}"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (model["name"], model["version"], model["digest"]) == (
        manifest["name"],
        manifest["version"],
        manifest["digest"],
    ), f"{SAMPLE.name} and {command[2]}/manifest.json differ: copy name, version and digest from there"


def test_the_model_of_the_sample_fits_into_a_config_map() -> None:
    _, sample = _sample()
    folder = ROOT / "models" / sample["spec"]["model"]["name"] / sample["spec"]["model"]["version"]
    assert sum(file.stat().st_size for file in folder.iterdir()) < 1_000_000
