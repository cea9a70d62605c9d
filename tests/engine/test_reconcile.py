"""The reconcile over the simulated API, with the real renderer."""

from tests.engine.world import ARCHIVE, World, archive_manifest, peer_manifest


def ready_world(**spec: object) -> World:
    world = World()
    world.api.put(archive_manifest(**spec))
    world.api.put(peer_manifest("ct1"))
    world.process = world.operator()
    world.settle(world.process)
    assert world.condition("Ready")["status"] == "True", list(world.reasons())
    return world


def test_from_nothing_to_ready():
    world = ready_world()
    assert world.archive["status"]["lineageID"] == world.drawn[0]
    assert len(world.drawn) == 1
    for kind in ("VaultReady", "DatabaseReady", "CertificatesCurrent", "PeersAccepted", "NetworkIsolated"):
        assert world.condition(kind)["status"] == "True", kind
    assert world.condition("Reconciling")["status"] == "False"
    assert len(world.jobs_run) == 1
    assert world.archive["status"]["conformance"]["outcome"] == "Passed"
    assert world.archive["status"]["endpoints"]["nodePort"] == 30762
    assert world.peer_condition("ct1")["status"] == "True"


def test_the_first_status_write_says_reconciling_with_the_generation():
    world = World()
    world.api.put(archive_manifest())
    writes = []
    keep = world.api.apply_status

    def watched(manifest):
        writes.append(manifest)
        return keep(manifest)

    world.api.apply_status = watched
    world.operator().reconcile(ARCHIVE)
    first = writes[0]["status"]
    assert world.log.entries[0].startswith("status PacsArchive")
    assert first["observedGeneration"] == 1
    conditions = {item["type"]: item for item in first["conditions"]}
    assert conditions["Reconciling"]["status"] == "True"
    assert conditions["Ready"]["status"] == "Unknown"


def test_a_settled_archive_costs_no_write_in_the_same_process_or_the_next():
    world = ready_world()
    before = len(world.log.entries)
    world.process.reconcile(ARCHIVE)
    fresh = world.operator()
    fresh.reconcile(ARCHIVE)
    world.advance(300)
    fresh.reconcile(ARCHIVE)
    assert world.log.entries[before:] == []
