"""Long scenarios use the same demo as the cluster tests."""

from tests.cluster.conftest import archive, built, cluster, ct1, image

__all__ = ["archive", "built", "cluster", "ct1", "image"]
