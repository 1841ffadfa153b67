# What the cluster tool reads out of other programs' output and files.
from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from tests.e2e.cluster import archive, debian, engine, go, kind, proc
from tests.e2e.cluster.__main__ import parser, protected, without_separator
from tests.e2e.cluster.errors import ClusterError


def test_the_go_version_is_read_from_its_own_words() -> None:
    assert go.parse_go_version("go version go1.26.8 linux/amd64") == (1, 26)
    assert go.parse_go_version("zsh: command not found") is None


def test_kubectl_says_its_minor_version_or_counts_as_none() -> None:
    assert go.kubectl_minor("Client Version: v1.32.4-dispatcher\nKustomize Version: v5.5.0") == 32
    assert go.kubectl_minor("") == 0


def test_the_linker_is_told_the_version_of_kubernetes() -> None:
    flags = go.version_flags("v1.34.4")
    assert "-X k8s.io/component-base/version.gitVersion=v1.34.4" in flags
    assert "-X k8s.io/client-go/pkg/version.gitMinor=34" in flags


def test_only_packages_the_machine_lacks_are_downloaded() -> None:
    simulated = (
        "Inst passwd [1:4.13+dfsg1-1] (1:4.13+dfsg1-2 Debian:12/oldstable [amd64])\n"
        "Inst runc (1.1.5+ds1-1 Debian:12/oldstable, Debian-Security:12/oldstable-security [amd64])\n"
        "Conf runc (1.1.5+ds1-1 Debian:12/oldstable [amd64])\n"
    )
    assert debian.parse_simulation(simulated) == [debian.Package("runc", "1.1.5+ds1-1")]


def test_the_mirror_is_the_one_apt_has_for_the_suite() -> None:
    targets = "http://security.example/d bookworm-security main\nhttp://mirror.example/debian bookworm main\n"
    assert debian.parse_mirror(targets, "bookworm") == "http://mirror.example/debian"
    assert debian.parse_mirror(targets, "trixie") is None


@pytest.mark.parametrize(("mask", "held"), [("000001fffeffffff", False), ("000001ffffffffff", True)])
def test_a_capability_is_read_from_the_effective_mask(mask: str, held: bool) -> None:
    status = f"Name:\tx\nCapPrm:\t0000000000000000\nCapEff:\t{mask}\n"
    assert engine.has_capability(status, engine.CAP_SYS_RESOURCE) is held


def test_a_process_that_does_not_exist_has_no_start_time() -> None:
    assert engine.start_time(2**22 + 1) is None
    assert not engine.Init(2**22 + 1, "1").alive()


def test_cgroups_are_removed_from_every_hierarchy_with_all_below(tmp_path: Path) -> None:
    for hierarchy in ("cpu", "memory"):
        (tmp_path / hierarchy / "pinn-e2e" / "container" / "kubelet").mkdir(parents=True)
        (tmp_path / hierarchy / "other").mkdir()
    engine.remove_cgroups(tmp_path, "pinn-e2e")
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.glob("*/*")) == ["cpu/other", "memory/other"]


def test_processes_are_found_by_one_whole_argument(tmp_path: Path) -> None:
    for pid, words in {"10": ["dockerd", "--data-root", "/s/docker"], "11": ["tail", "/s/docker.log"]}.items():
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "cmdline").write_bytes("\0".join(words).encode() + b"\0")
    (tmp_path / "12").mkdir()  # it ended meanwhile
    assert engine.processes_with_argument(tmp_path, "/s/docker") == [10]


def test_kubectls_own_options_reach_kubectl() -> None:
    arguments = parser().parse_args(protected(["kubectl", "-n", "kube-system", "get", "pods"]))
    assert without_separator(arguments.argv) == ["-n", "kube-system", "get", "pods"]


def test_a_command_to_run_keeps_its_own_separator() -> None:
    arguments = parser().parse_args(["run", "--name", "x", "--", "kubectl", "exec", "pod", "--", "true"])
    assert arguments.name == "x"
    assert without_separator(arguments.argv) == ["kubectl", "exec", "pod", "--", "true"]


def test_three_nodes_are_one_control_plane_and_two_workers() -> None:
    roles = [node["role"] for node in kind.configuration(3)["nodes"]]
    assert roles == ["control-plane", "worker", "worker"]


def test_an_archive_holds_a_shared_layer_once(tmp_path: Path) -> None:
    layer = archive.layer(tmp_path / "layer.tar", lambda tar: archive.add_bytes(tar, "file", b"x"))
    out = tmp_path / "out.tar"
    archive.write_archive(out, [archive.Image("a:1", [layer]), archive.Image("b:1", [layer], {"User": "1"})])
    with tarfile.open(out) as tar:
        names = tar.getnames()
        manifest_file = tar.extractfile("manifest.json")
        assert manifest_file is not None
        manifest = json.load(manifest_file)
    assert names.count(f"{layer.sha256}.tar") == 1
    assert [entry["RepoTags"] for entry in manifest] == [["a:1"], ["b:1"]]
    assert manifest[0]["Config"] != manifest[1]["Config"]
    assert archive.images_in(out) == {
        entry["RepoTags"][0]: "sha256:" + entry["Config"].removesuffix(".json") for entry in manifest
    }


def test_a_failure_shows_the_end_of_the_log_and_where_it_is(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(ClusterError) as caught:
        proc.run_logged(["sh", "-c", "echo the reason; exit 7"], what="trying", log=log, limit=10)
    assert "exit status 7" in str(caught.value)
    assert "the reason" in str(caught.value)
    assert str(log) in str(caught.value)


def test_a_wait_ends_at_its_limit(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="not finished after"):
        proc.run_logged(["sleep", "30"], what="sleeping", log=tmp_path / "log", limit=0.3)


def test_durations_read_as_people_say_them() -> None:
    assert (proc.duration(5.4), proc.duration(429)) == ("5s", "7m09s")
