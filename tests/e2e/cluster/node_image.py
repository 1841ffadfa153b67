# Makes the image that kind runs as a Kubernetes node, for machines that can pull none: a minimal Debian
# with systemd and containerd, our own build of Kubernetes, and the images of the control plane preloaded.
from __future__ import annotations

import shutil
import tarfile
import time
from pathlib import Path

from . import archive, debian, go
from .cache import Cache, digest, tree_digest
from .proc import duration, output_of, run_logged, say

HERE = Path(__file__).resolve().parent
OVERLAY = HERE / "node" / "overlay"
REPOSITORY = "pinn-e2e/node"
MINUTE = 60.0

PACKAGES = [
    "systemd", "dbus", "containerd", "runc", "containernetworking-plugins", "iptables", "nftables", "conntrack",
    "iproute2", "ethtool", "util-linux", "mount", "kmod", "procps", "pigz", "ca-certificates", "jq",
]  # fmt: skip
UNITS_MASKED = [
    "systemd-binfmt.service", "proc-sys-fs-binfmt_misc.automount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount",
    "sys-kernel-config.mount", "sys-fs-fuse-connections.mount", "dev-hugepages.mount", "dev-mqueue.mount",
]  # fmt: skip
CONTROL_PLANE = ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd"]
# The names and tags are those that this kubeadm asks for (`kubeadm config images list`). What is in CoreDNS's
# is v1.12.4: v1.12.1 does not compile with the client library of this Kubernetes.
ETCD_IMAGE = "registry.k8s.io/etcd:3.6.5-0"
COREDNS_IMAGE = "registry.k8s.io/coredns/coredns:v1.12.1"
PAUSE_IMAGE = "registry.k8s.io/pause:3.10.1"
PODNET_IMAGE = "localhost/podnet:1"


def node_archive(cache: Cache, tools: Path) -> tuple[str, Path]:
    """The node image's name and its docker-archive; `tools` holds the containerd that preloads it."""
    programs = go.node_programs(cache)
    coredns = go.coredns_program(cache)
    root = debian.root_filesystem(cache, "node-root", PACKAGES, expected=60) / "root"

    sources = [Path(__file__), HERE / "archive.py", OVERLAY]
    key = digest([programs.name, coredns.parent.name, root.parent.name, tree_digest(sources, HERE)])
    name = f"{REPOSITORY}:{key}"

    def build(place: Path) -> None:
        say("making the node image (usually 15s)")
        started = time.monotonic()
        work = place / "work"
        work.mkdir()
        write_cluster_images(work / "images.tar", work, programs, coredns, root)
        tree = work / "tree"
        make_tree(tree, root, programs)
        preload(tree, work, tools, cache.logs / "node-image.log")
        layer = archive.layer_of_tree(work / "node.tar", tree)
        config = {
            "Env": [archive.DEFAULT_PATH, "container=docker"],
            "Entrypoint": ["/usr/local/bin/entrypoint", "/sbin/init"],
            "StopSignal": "SIGRTMIN+3",  # systemd's own signal for an orderly halt
        }
        archive.write_archive(place / "node.tar", [archive.Image(name, [layer], config)])
        shutil.rmtree(work)
        say(f"making the node image: done in {duration(time.monotonic() - started)}")

    return name, cache.artefact("node-image", key, build) / "node.tar"


def write_cluster_images(out: Path, work: Path, programs: Path, coredns: Path, root: Path) -> None:
    """One archive with every image a new cluster runs; they share one layer of programs."""

    def fill_programs(tar: tarfile.TarFile) -> None:
        for folder in ("usr", "usr/local", "usr/local/bin"):
            archive.add_folder(tar, folder)
        archive.add_folder(tar, "tmp", 0o1777)
        archive.add_program(tar, "usr/local/bin/nodebin", programs / "nodebin")
        for name in [*CONTROL_PLANE, "kube-proxy"]:
            archive.add_link(tar, f"usr/local/bin/{name}", "nodebin")

    shared = archive.layer(work / "programs.tar", fill_programs)
    packet_filter = packet_filter_layer(work, root)
    resolver = archive.layer(work / "coredns.tar", lambda t: archive.add_program(t, "coredns", coredns))
    pause = archive.layer(work / "pause.tar", lambda t: archive.add_program(t, "pause", programs / "pause"))
    version = go.KUBERNETES_VERSION
    names = [*(f"registry.k8s.io/{n}:{version}" for n in CONTROL_PLANE if n != "etcd"), ETCD_IMAGE, PODNET_IMAGE]
    images = [archive.Image(name, [shared]) for name in names]
    images += [
        archive.Image(f"registry.k8s.io/kube-proxy:{version}", [shared, packet_filter]),
        archive.Image(COREDNS_IMAGE, [resolver], {"Entrypoint": ["/coredns"], "WorkingDir": "/"}),
        archive.Image(PAUSE_IMAGE, [pause], {"Entrypoint": ["/pause"], "User": "65535:65535"}),
    ]
    archive.write_archive(out, images)


def packet_filter_layer(work: Path, root: Path) -> archive.Layer:
    """What kube-proxy calls: iptables and nft with their libraries, taken from the node's Debian."""
    tree = work / "packet-filter"
    for folder in ("usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "etc", "run"):
        (tree / folder).mkdir(parents=True)
    for folder in ("bin", "sbin", "lib", "lib64"):
        (tree / folder).symlink_to(f"usr/{folder}")
    programs = ["usr/sbin/xtables-nft-multi", "usr/sbin/nft"]
    extensions = [str(p.relative_to(root)) for p in (root / "usr/lib").glob("*/xtables/*.so")]
    for file in [*programs, *extensions, *libraries(root, [*programs, *extensions])]:
        target = tree / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / file, target)
    debian.link_iptables(tree)
    (tree / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    # kube-proxy balances by this match, and an extension is only loaded when it is used.
    output_of(["chroot", tree, "/usr/sbin/iptables", "-m", "statistic", "--help"])
    output_of(["chroot", tree, "/usr/sbin/nft", "--version"])
    return archive.layer_of_tree(work / "packet-filter.tar", tree)


def libraries(root: Path, files: list[str]) -> list[str]:
    """Paths, relative to the root, of what programs and extensions are linked with and of the loader."""
    listing = output_of(["chroot", root, "ldd", *(f"/{file}" for file in files)])
    words = {word for line in listing.splitlines() if line.startswith("\t") for word in line.split()}
    return sorted(word.lstrip("/") for word in words if word.startswith("/"))


def make_tree(tree: Path, root: Path, programs: Path) -> None:
    """The node's file system, but for the preloaded images."""
    output_of(["cp", "--archive", root, tree], limit=5 * MINUTE)
    output_of(["cp", "--recursive", "--no-target-directory", OVERLAY, tree])
    shutil.copy2(programs / "nodebin", tree / "usr/bin/nodebin")
    for name in ("kubelet", "kubeadm", "kubectl"):
        (tree / "usr/bin" / name).symlink_to("nodebin")
    (tree / "kind/version").write_text(go.KUBERNETES_VERSION)
    (tree / "opt/cni").mkdir(parents=True, exist_ok=True)
    (tree / "opt/cni/bin").symlink_to("/usr/lib/cni")
    for script in ("usr/local/bin/entrypoint", "usr/local/bin/crictl", "usr/local/bin/kubelet-cgroups"):
        (tree / script).chmod(0o755)
    configure_systemd(tree)


def configure_systemd(tree: Path) -> None:
    """Leave containerd and the kubelet as the only services: a node is not a machine that boots."""
    units = tree / "lib/systemd/system"
    wanted = ["multi-user.target.wants/*", "local-fs.target.wants/*", "sockets.target.wants/*udev*"]
    wanted += ["sockets.target.wants/*initctl*", "sysinit.target.wants/systemd-tmpfiles-setup.service"]
    for pattern in wanted:
        for link in units.glob(pattern):
            link.unlink()
    for link in (tree / "etc/systemd/system").glob("*.wants/*"):
        link.unlink()
    init = tree / "usr/sbin/init"
    init.unlink(missing_ok=True)
    init.symlink_to("/lib/systemd/systemd")
    output_of(["chroot", tree, "systemctl", "enable", "kubelet.service", "containerd.service"])
    output_of(["chroot", tree, "systemctl", "mask", *UNITS_MASKED])
    output_of(["chroot", tree, "systemctl", "set-default", "multi-user.target"])


PRELOAD_SCRIPT = """
set -eu
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
cat > /run/containerd.toml <<END
version = 2
root = "$TREE/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
END
containerd --config /run/containerd.toml &
for _ in $(seq 150); do ctr version >/dev/null 2>&1 && break; sleep 0.2; done
ctr --namespace k8s.io images import --no-unpack --digests "$IMAGES"
ctr --namespace k8s.io images ls
kill $!
wait $! || true
"""


def preload(tree: Path, work: Path, tools: Path, log: Path) -> None:
    """Import the images into the node's containerd, run for that moment in namespaces of its own."""
    env = debian.tools_environment(tools) | {"TREE": str(tree), "IMAGES": str(work / "images.tar")}
    run_logged(
        ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", PRELOAD_SCRIPT],
        what="preloading the control plane's images",
        log=log,
        limit=5 * MINUTE,
        expected=10,
        env=env,
    )
