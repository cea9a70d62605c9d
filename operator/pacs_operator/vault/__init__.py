"""The only importer of hvac: PKI, auth and roles, with errors translated at this door."""
