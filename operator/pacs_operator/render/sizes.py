"""Processor and memory of each container.

Memory request and limit are equal (an archive is not evicted because a neighbour grew); processor time is
requested but not limited, since throttling shows as slow associations. Requests are small enough for a node of
two cores; memory-backed volumes count against the container that wrote them.

Orthanc's memory follows the blueprint's decision 7: about 4 x the largest object x the number of senders that send
such objects at the same time, whatever plugin is loaded (a C-STORE of 524 MB took 2,037 MB). The default of 2 GiB
is right for 500 MB in flight at once; tomosynthesis or whole-slide images with several senders need more:
``spec.storage.maxObjectMi`` derives it, and has larger objects refused.
"""

from dataclasses import dataclass

from pacs_operator.domain.archive import Resources
from pacs_operator.domain.facts import Desired
from pacs_operator.domain.largest import MEMORY_COPIES
from pacs_operator.domain.names import Component
from pacs_operator.render.manifests import Manifest, cpu, memory


@dataclass(frozen=True)
class Size:
    """Requested processor time (thousandths of a core) and memory (MiB; request and limit)."""

    cpu_milli: int
    memory_mi: int

    def resources(self) -> Manifest:
        """Return the container's ``resources``."""
        quantity = memory(self.memory_mi)
        return {"requests": {"cpu": cpu(self.cpu_milli), "memory": quantity}, "limits": {"memory": quantity}}


AGENT = Size(cpu_milli=25, memory_mi=160)

_GATE_BASE_MI = 192
_GATE_ASSOCIATION_MI = 1  # buffers of 128 KiB both ways on either side, and two TLS sessions

_IMPORTER_BASE_MI = 100

_DEFAULTS = {
    Component.ORTHANC: Size(cpu_milli=200, memory_mi=2048),
    Component.POSTGRES: Size(cpu_milli=100, memory_mi=512),
    Component.CONFORMANCE: Size(cpu_milli=100, memory_mi=512),
    Component.IMPORTER: Size(cpu_milli=100, memory_mi=1536),  # four copies of the largest object while it passes
}


def main(desired: Desired, component: Component) -> Size:
    """Return the size of a component's main container: what the spec says, else the default."""
    scheduling = desired.archive.spec.scheduling
    asked = {
        Component.GATE: scheduling.gate,
        Component.ORTHANC: scheduling.orthanc,
        Component.POSTGRES: scheduling.database,
    }.get(component, Resources())
    default = _default(desired, component)
    return Size(asked.cpu_milli or default.cpu_milli, asked.memory_mi or default.memory_mi)


def web(desired: Desired) -> Size:
    """Return the size of the HAProxy beside Orthanc: it has buffers for each request, whatever the body's size."""
    return Size(cpu_milli=50, memory_mi=_GATE_BASE_MI // 2 + _requests(desired) * _GATE_ASSOCIATION_MI)


def _requests(desired: Desired) -> int:
    dicomweb = desired.archive.spec.dicomweb
    return dicomweb.limits.max_concurrent if dicomweb else 0


def _default(desired: Desired, component: Component) -> Size:
    default = _gate(desired) if component is Component.GATE else _DEFAULTS[component]
    if component is Component.IMPORTER:
        return Size(default.cpu_milli, max(default.memory_mi, _carried_mi(desired)))
    if component is not Component.ORTHANC:
        return default
    # Never less than without a word: readers need memory too.
    return Size(default.cpu_milli, max(default.memory_mi, desired.archive.spec.storage.orthanc_memory_mi or 0))


def _carried_mi(desired: Desired) -> int:
    """Return what an import needs for the largest objects, one in hand of each association; 0 without such a bound."""
    largest = desired.archive.spec.storage.max_object_mi
    if largest is None or desired.importing is None:
        return 0
    return MEMORY_COPIES * largest * desired.importing.spec.rate_limit.associations + _IMPORTER_BASE_MI


def _gate(desired: Desired) -> Size:
    connections = desired.archive.spec.gate.max_associations + _requests(desired)
    return Size(cpu_milli=100, memory_mi=_GATE_BASE_MI + connections * _GATE_ASSOCIATION_MI)
