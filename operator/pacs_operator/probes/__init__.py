"""Probes that attack an archive as a modality or an intruder would; never imported by the operator."""
