"""raftcoord's Dask objects side by side with Dask's own.

`objects`, `topics`, `handles` and `turn` also run in an environment that has an old release of Dask and not
what raftcoord needs, so they do not import raftcoord at the top.
"""
