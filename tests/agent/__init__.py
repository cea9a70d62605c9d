"""The agent: certificates, feeds, ports, and the servers it stands beside."""
