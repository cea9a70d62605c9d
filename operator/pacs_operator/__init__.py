"""pacs-operator: runs, segments and attacks picture archives (PACS) on Kubernetes."""

__version__ = "0.1.0"
