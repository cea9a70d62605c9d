"""One real OpenBao for the session, prepared by the administrator's own script; an archive of its own for each test."""

import uuid
from collections.abc import Iterator

import pytest

from tests.vault.identity import TestIdentityProvider
from tests.vault.openbao import OpenBao
from tests.vault.world import World


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A bootstrapped server, an identity provider, and the means to act as anybody."""
    folder = tmp_path_factory.mktemp("openbao")
    (folder / "identity").mkdir()
    identity = TestIdentityProvider(folder / "identity")
    bao = OpenBao(folder)
    try:
        bao.start()
        made = World(bao, identity, folder)
        done = made.bootstrap()
        assert done.returncode == 0, done.stderr
        yield made
    finally:
        bao.stop()
        identity.close()


@pytest.fixture
def lineage() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def archive() -> str:
    return f"a{uuid.uuid4().hex[:8]}"
