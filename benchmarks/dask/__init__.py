"""raftcoord's Dask objects side by side with Dask's own.

`objects`, `topics`, `handles` and `turn` also run in an environment with an old release of Dask and without
raftcoord, so they import neither at the top.
"""
