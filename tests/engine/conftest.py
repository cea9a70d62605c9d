"""What most tests of the engine start from."""

import pytest

from tests.engine.world import World, archive_manifest, peer_manifest


@pytest.fixture
def world() -> World:
    """Return a world with one archive and one peer, settled, and the process that goes on."""
    world = World()
    world.api.put(archive_manifest())
    world.api.put(peer_manifest("ct1"))
    world.process = world.operator()
    world.settle(world.process)
    return world
