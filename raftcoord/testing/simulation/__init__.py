"""Whole clusters with their clients in one process, on simulated time, network and disks.

One seed decides everything and replays it exactly. What runs is the code that production runs: engine,
journal, snapshots, machine, gateway, session clock, client. Only the edges are simulated.

    scheduler, process      virtual time; processes with an event loop, a clock and a life of their own
    network, link_rules     connections between hosts, and what can go wrong with them
    faulty_disk, disk       files that lose what was not synced
    scenario, generate      what happens in a run, as data; and how a seed becomes such data
    hosts, clients, nemesis who does it
    probe, checks           what is watched, and what must hold
    simulation              one run; `batch` many of them; `shrink` the smallest one that still fails
"""
