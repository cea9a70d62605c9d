"""The only importer of the Kubernetes client: read, apply, prune, watch, lease."""
