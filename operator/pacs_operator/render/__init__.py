"""Pure functions from (spec, facts) to Kubernetes manifests."""
