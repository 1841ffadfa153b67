"""What the tests of far away models share: a certificate, a model as an archive, and an environment without proxies."""

import io
import subprocess
import tarfile
from pathlib import Path

import pytest


def made_for(folder: Path, names: str) -> Path:
    """Puts tls.key and tls.crt for these names into the folder; ca.crt is the same certificate."""
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    about = ["-subj", "/CN=pinn test", "-addext", f"subjectAltName={names}"]
    files = ["-keyout", str(folder / "tls.key"), "-out", str(folder / "tls.crt")]
    subprocess.run(["openssl", "req", "-x509", *kind, *about, *files], check=True, capture_output=True)
    (folder / "ca.crt").write_bytes((folder / "tls.crt").read_bytes())
    return folder


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the certificate of the servers here."""
    return made_for(tmp_path_factory.mktemp("certificate"), "IP:127.0.0.1,DNS:localhost")


@pytest.fixture(scope="session")
def certificate_of_another(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate for another name."""
    return made_for(tmp_path_factory.mktemp("another"), "DNS:models.example.com")


@pytest.fixture
def secret(certificate: Path, tmp_path: Path) -> Path:
    """A Secret as it is mounted, with the certificate's authority in it."""
    folder = tmp_path / "secret"
    folder.mkdir()
    (folder / "ca.crt").write_bytes((certificate / "ca.crt").read_bytes())
    return folder


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name}_proxy".upper(), raising=False)


@pytest.fixture(scope="session")
def packed(models: Path) -> bytes:
    """black-scholes 1.0.0 as `tar czf` makes it of its folder."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.add(models / "black-scholes/1.0.0", "1.0.0")
    return buffer.getvalue()
