"""Puts the models where the servers look for them: as files of a bucket, as an archive in it, and as an archive on the web."""

import tarfile
import zipfile
from pathlib import Path

MODELS, DATA = Path("/models"), Path("/data")


def files(version: str) -> list[Path]:
    return sorted(path for path in (MODELS / version).iterdir() if path.is_file())


bucket, web = DATA / "s3/models", DATA / "web"
for folder in (bucket / "black-scholes/1.0.0", web, DATA / "registry"):
    folder.mkdir(parents=True, exist_ok=True)
for path in files("1.0.0"):
    (bucket / "black-scholes/1.0.0" / path.name).write_bytes(path.read_bytes())
with tarfile.open(bucket / "black-scholes-2.0.0.tar.gz", "w:gz", dereference=True) as tar:
    for path in files("2.0.0"):
        tar.add(path, f"2.0.0/{path.name}")
with zipfile.ZipFile(web / "black-scholes-1.0.0.zip", "w") as packed:
    for path in files("1.0.0"):
        packed.writestr(path.name, path.read_bytes())
