"""The Kubernetes API behind one port: the only importer of the Kubernetes client."""
