"""Measurements of raftcoord, side by side with etcd. Run `python -m benchmarks --help`.

Nothing in the package imports this folder, and it uses only what users have: the public API and
`LocalCluster`.
"""
