"""`python -m raftcoord.cli`: the same as the command `raftcoord`."""

from raftcoord.cli import main

if __name__ == "__main__":
    main()
