"""Where campaigns are broken: in memory where there is any, since thousands of small files are written and deleted."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusterflow.state.disk import replaced_by
from clusterflow.testing.recording_disk import Unsynchronised


@pytest.fixture(scope="session")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for the whole session."""
    shared = Path("/dev/shm")
    if not os.access(shared, os.W_OK):
        yield tmp_path_factory.mktemp("memory")
        return
    folder = Path(tempfile.mkdtemp(prefix="clusterflow-", dir=shared))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def fast(memory: Path) -> Iterator[Path]:
    """A folder of this test."""
    folder = Path(tempfile.mkdtemp(dir=memory))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def unsynchronised() -> Iterator[None]:
    """Nothing waits for the disk."""
    with replaced_by(Unsynchronised()):
        yield
