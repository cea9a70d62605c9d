"""The sidecar beside gate, Orthanc and PostgreSQL: keys in memory, live configuration, health."""
