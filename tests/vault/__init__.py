"""Vault: provisioning, policies and the pods' client, against a real OpenBao."""
