"""raftcoord."""
