"""The client: connection, session, failover; the asyncio objects and their synchronous facades.

Nothing here imports the server, the consensus or the machine; the wire is all that is shared with them.
"""
