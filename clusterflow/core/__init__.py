"""Records, Protocols, array keys and content hashes that every stage shares."""
