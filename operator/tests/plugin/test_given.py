"""The manifest that `migrate -f` is given: what it may not be, said with the file's name and a remedy."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pinn_operator.plugin.given import given
from pinn_operator.plugin.kubectl import Trouble
from tests.plugin.conftest import Run
from tests.plugin.fake_api import FakeApi
from tests.plugin.given_pinn import pinn

MANIFEST = yaml.safe_dump({key: value for key, value in pinn().items() if key != "status"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"kind: [", "is no YAML"),
        (b"a\0b", "is no YAML"),
        (b"\xff\xfe\xfa", "save it as UTF-8"),
        (b"", "one PinnDeployment is wanted"),
        (b"- a\n- b\n", "one PinnDeployment is wanted"),
        (b"just words", "one PinnDeployment is wanted"),
        (MANIFEST.encode() + b"---\nkind: Service\n", "one PinnDeployment is wanted"),
        (b"kind: PinnDeployment\nmetadata:\n", "metadata must be a mapping with name: pricer"),
        (b"kind: PinnDeployment\nmetadata: pricer\n", "metadata must be a mapping with name: pricer"),
        (b"kind: PinnDeployment\n", "metadata must be a mapping with name: pricer"),
        (b"kind: PinnDeployment\nmetadata: {name: other}\n", "it must be pricer"),
    ],
)
def test_a_file_that_is_no_pinndeployment_of_the_services_name_is_refused(
    tmp_path: Path, text: bytes, said: str
) -> None:
    file = tmp_path / "a.yaml"
    file.write_bytes(text)
    with pytest.raises(Trouble, match=said) as refused:
        given(str(file), "pricer", "demo")
    assert str(file) in str(refused.value)
    assert refused.value.code == 2


def test_a_file_that_is_not_there_ends_with_2_and_no_traceback(api: FakeApi, run: Run, tmp_path: Path) -> None:
    done = run("migrate", "pricer", "-f", str(tmp_path / "none.yaml"))
    assert done.exit_code == 2
    assert f"error: {tmp_path / 'none.yaml'} cannot be read: No such file or directory" in done.output
    assert api.writes == []


def test_a_manifest_of_another_namespace_is_refused_and_one_without_goes_where_the_service_is(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(MANIFEST)
    assert given(str(file), "pricer", "demo")["metadata"]["name"] == "pricer"
    with pytest.raises(Trouble, match=r"metadata\.namespace is demo.*say -n demo") as refused:
        given(str(file), "pricer", "prod")
    assert refused.value.code == 2
    file.write_text(MANIFEST.replace("  namespace: demo\n", ""))
    assert "namespace" not in given(str(file), "pricer", "prod")["metadata"]


def test_a_date_without_quotes_is_a_version_as_kubectl_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(MANIFEST.replace("version: 1.0.0", "version: 2026-01-02"))
    assert given(str(file), "pricer", "demo")["spec"]["model"]["version"] == "2026-01-02"
