"""Long scenarios use the same demo as the cluster tests."""

from tests.cluster.conftest import archive, cluster, ct1

__all__ = ["archive", "cluster", "ct1"]
