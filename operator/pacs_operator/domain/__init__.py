"""What an archive, a peer, a zone and a condition are: no I/O and no clock of its own."""
