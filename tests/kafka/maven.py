"""Jars from Maven Central, by the Maven that is installed."""

import shutil
import subprocess
import uuid
from pathlib import Path


def there() -> bool:
    """Whether there are Java and Maven."""
    return shutil.which("java") is not None and shutil.which("mvn") is not None


def fetched(pom: Path, folder: Path) -> Path:
    """The folder, with what the pom depends on; fetched if it is not there yet. Raises OSError when that fails."""
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Into place by a rename, so that a fetch which was broken off leaves nothing that looks whole.
    new = folder.with_name(f"{folder.name}.{uuid.uuid4().hex}")
    command = ["mvn", "-q", "-B", "-f", str(pom), "dependency:copy-dependencies", f"-DoutputDirectory={new}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"Maven says {(done.stdout + done.stderr).strip()[-500:]}")
    try:
        new.rename(folder)
    except OSError:  # another process was faster
        shutil.rmtree(new)
    return folder
