"""The demonstration: ten worker processes share objects while the leader is killed, and a verdict."""
