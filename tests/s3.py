"""A real S3 server on loopback, versitygw, which keeps objects in a folder.

Built from source by `go install`, once for each clone, into `.tools/`; that takes a minute or two of two cores.
"""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.system.server import eventually, free_port

VERSION = "v1.8.0"
TOOLS = Path(__file__).parent.parent / ".tools"
BUCKET = "snapshots"
BUILD_S = 1_200
"""For tests that may have to wait for the build on a busy machine."""


def versitygw() -> Path:
    """The program; built where it is not there yet."""
    program = TOOLS / f"versitygw-{VERSION}"
    TOOLS.mkdir(exist_ok=True)
    with (TOOLS / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            assert shutil.which("go"), "the tests of S3 build their server with Go 1.25 or newer: install it"
            with tempfile.TemporaryDirectory(dir=TOOLS) as folder:
                built = subprocess.run(
                    ["go", "install", "-ldflags=-s -w", f"github.com/versity/versitygw/cmd/versitygw@{VERSION}"],
                    env=os.environ | {"GOBIN": folder},
                    capture_output=True,
                    text=True,
                    check=False,
                )
                assert built.returncode == 0, f"versitygw cannot be built:\n{built.stderr[-2_000:]}"
                (Path(folder) / "versitygw").rename(program)
    return program


class S3Server:
    """The server, with one bucket, its objects as files, and how clients are told of it."""

    def __init__(self, folder: Path) -> None:
        self.place = f"s3://{BUCKET}/some/where"
        self.port = free_port()
        self.env = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "the-secret-of-the-key",
            "AWS_REGION": "us-east-1",
        }
        self._objects, self._metadata = folder / "objects", folder / "metadata"
        self.bucket = self._objects / BUCKET
        self.bucket.mkdir(parents=True)
        self._metadata.mkdir()

    @contextmanager
    def running(self) -> Iterator["S3Server"]:
        """Serve until the block ends."""
        command = [str(versitygw()), "--port", f"127.0.0.1:{self.port}", "--quiet", "--health", "/health"]
        command += ["--access", self.env["AWS_ACCESS_KEY_ID"], "--secret", self.env["AWS_SECRET_ACCESS_KEY"]]
        command += ["posix", "--sidecar", str(self._metadata), str(self._objects)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            eventually(self._answers)
            yield self
        finally:
            process.kill()
            process.wait()

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.env['AWS_ENDPOINT_URL']}/health").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def file(self, key: str) -> Path:
        """Where the object under this key is kept."""
        return self.bucket / "some" / "where" / key
