"""All manifests of one archive, in the order in which they can be applied."""

from pacs_operator.domain.facts import Desired
from pacs_operator.render import (
    agent,
    conformance,
    gate_workload,
    identity,
    importer,
    orthanc_workload,
    policies,
    postgres_workload,
    zones,
)
from pacs_operator.render.manifests import Manifest, digest, runs_database


def render_archive(desired: Desired) -> list[Manifest]:
    """Return every manifest of an archive.

    Parameters
    ----------
    desired
        The archive's spec and the facts around it; nothing else is looked at.

    Returns
    -------
    list of dict
        Complete manifests for server-side apply: the same for the same input, each with our labels; what others
        need comes first, and policies before pods.
    """
    return [
        *zones.render(desired),
        *policies.render(desired),
        *identity.render(desired),
        *_configuration(desired),
        *_storage(desired),
        *_network(desired),
        *_workloads(desired),
        *conformance.render(desired),
        *importer.render(desired),
    ]


def config_hash(desired: Desired) -> str:
    """Return a hash that changes whenever some pod of the archive has to be replaced.

    Peers, replicas and the conformance run are no part of it: they change while everything runs.
    """
    templates = [workload["spec"]["template"] for workload in _workloads(desired)]
    return digest(templates)


def _configuration(desired: Desired) -> list[Manifest]:
    return [
        *(postgres_workload.configuration(desired) if runs_database(desired) else []),
        *orthanc_workload.configuration(desired),
        *gate_workload.configuration(desired),
        *agent.live_peers(desired),
    ]


def _storage(desired: Desired) -> list[Manifest]:
    return [*postgres_workload.storage(desired), *orthanc_workload.storage(desired)]


def _network(desired: Desired) -> list[Manifest]:
    return [
        *(postgres_workload.network(desired) if runs_database(desired) else []),
        *orthanc_workload.network(desired),
        *gate_workload.network(desired),
    ]


def _workloads(desired: Desired) -> list[Manifest]:
    """Return the workloads, the ones that others wait for first."""
    return [
        *([postgres_workload.workload(desired)] if runs_database(desired) else []),
        orthanc_workload.workload(desired),
        gate_workload.workload(desired),
    ]
