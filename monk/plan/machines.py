"""A machine that is only described, socket by socket, and this one, measured in half a second."""

from __future__ import annotations

import time

from monk.errors import InvalidInput
from monk.plan.speed import GFLOPS_PER_CORE, Machine

POLICIES = ("off", "distribute", "isolate", "numactl")
FURTHER_SOCKET_SHARE = 0.6  # of its bandwidth, that a further socket adds where pages and threads lie evenly on all
# bytes a second on a data sheet that one core can make use of: 16 cores of an EPYC 9135 were published at 283 GB/s of weights
# read, of 538 on paper, so it is not less than 34
CORE_BANDWIDTH = 35e9
BANDWIDTH_PER_CORE = 7.2e9  # of a socket whose cores are not said: twelve channels of DDR5-4800 with 64 cores
PIECE_BYTES = 1 << 28


def described(
    socket_bandwidth: float, socket_cores: int, sockets: int = 1, policy: str = "off", threads: int = 0
) -> Machine:
    """`socket_bandwidth` in bytes a second and `socket_cores` are of one socket, as on a data sheet; 0 cores: as many as go
    with the bandwidth. `policy`: as the setting `numa`. `threads`: 0 for all cores. Raises InvalidInput.

    Without a policy the pages of the weights lie with the socket that touched them first, and the other reads them over the
    link between them: a second socket is taken to add cores, and no bandwidth. Spread over all sockets, each further one is
    taken to add 0.6 of its own. Both are assumptions. For the first speak two Xeons that ran a 7B model 1.07 times as fast as one
    (llama.cpp pull request 1556); two EPYC 9334 without a policy stayed at half of it.
    """
    if policy not in POLICIES:
        raise InvalidInput(f"numa is {policy[:40]!r}; use one of {', '.join(POLICIES)}", param="numa")
    notes = []
    if not socket_cores:
        socket_cores = max(1, round(socket_bandwidth / BANDWIDTH_PER_CORE))
        notes.append(
            f"{socket_cores} cores a socket are assumed, one for each {BANDWIDTH_PER_CORE / 1e9:g} GB/s: prompts and wide "
            "batches are as fast as the cores are many, so say --cores"
        )
    used = 1 if policy == "isolate" else sockets
    bandwidth, cores = socket_bandwidth, socket_cores * used
    if sockets > 1 and policy == "off":
        notes.append(
            f"{sockets} sockets without a NUMA policy: the weights lie with one of them, so that only one socket's "
            f"{socket_bandwidth / 1e9:.0f} GB/s are counted, and the cores of all (numa = distribute counts more)"
        )
    elif sockets > 1 and policy == "isolate":
        notes.append(f"{sockets} sockets, isolated: the memory and the {socket_cores} cores of one are counted")
    elif sockets > 1:
        bandwidth *= 1.0 + FURTHER_SOCKET_SHARE * (sockets - 1)
        notes.append(
            f"{sockets} sockets with pages and threads spread over them: each further socket is taken to add "
            f"{FURTHER_SOCKET_SHARE:g} of its bandwidth, {bandwidth / 1e9:.0f} GB/s in all"
        )
    at_work = min(threads or cores, cores)
    if threads:
        notes.append(f"{at_work} of {cores} cores at work: products and attention by their number")
    if at_work * CORE_BANDWIDTH < bandwidth:
        bandwidth = at_work * CORE_BANDWIDTH
        notes.append(f"{at_work} cores read {bandwidth / 1e9:.0f} GB/s at most, {CORE_BANDWIDTH / 1e9:.0f} each")
    return Machine(float(bandwidth), GFLOPS_PER_CORE * at_work, tuple(notes), at_work)


def measured(cores: int) -> Machine:
    """This machine, with so many threads: the best of a few sums over memory and of a few products, half a second."""
    from monk.engine.machine import measured_gflops, physical_cores

    share = min(1.0, cores / physical_cores())
    notes = () if share == 1.0 else (f"{cores} of {physical_cores()} cores at work",)
    return Machine(measured_bandwidth(cores), share * measured_gflops(), notes)


def measured_bandwidth(cores: int, rounds: int = 3) -> float:
    """Bytes a second that so many cores together read."""
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np

    pieces = [np.ones(PIECE_BYTES // 4 // cores, np.float32) for _ in range(cores)]
    best = 0.0
    with ThreadPoolExecutor(cores) as pool:
        for _ in range(rounds):
            began = time.perf_counter()
            list(pool.map(np.sum, pieces))
            best = max(best, sum(piece.nbytes for piece in pieces) / (time.perf_counter() - began))
    return best
