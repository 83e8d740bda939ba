"""More bounds of the kernel: those of long messages and credit. Late part of ``limits``, and kept in the same way."""

# What a flow may have under way on a link before it was measured, and what it may at least. Two fragments of full size keep
# a link on one machine busy; the least is four small ones.
window_bytes = 262144
window_bytes_min = 65536

# What a window may hold for the time that it waits beyond the round trip: 1 MiB are 1 ms at 1 GB/s.
window_bytes_near = 1 << 20

# What a flow may have under way at most, and all flows of a link together but for one fragment each. 8 MiB are 80 MB/s at a
# round trip of 100 ms. A node in the middle holds so much for a flow whose way on stops suddenly, if that way was far and fast.
window_bytes_max = 8 << 20

# How long bytes may wait in a window beyond the round trip: what a call behind them waits, too.
queueing_s = 0.004

# A fragment is as long as its flow takes so long to deliver it, but no shorter than that: 15 us of Python for each.
fragment_s = 0.002
fragment_bytes_min = 16384

# Round trips that are longer than that are taken for as long.
trip_s_max = 1.0

# How many messages may be unfinished at once on a link, from one node to another (a receiver takes 64 of one source), and in
# all; beyond some they are cut small. So flows that can't go on hold 512 * 16 KiB + 64 * 112 KiB at the neighbour: 15 MiB.
begun_by_pair_max = 32
begun_max = 512
begun_small = 64

# How much control may go before one flow has a turn: a quarter of what is written at once.
control_bytes_ahead = 65536

# How many flows a neighbour may have stopped at a time: more than a node has lanes.
stopped_flows_max = 4096

# How many bytes of frames that need no credit may wait in one flow before it is stopped where they come from; how many are
# left when it may go on; and how many show that the node that sends them doesn't stop: 2 MiB can be under way in ssh.
flow_bytes_max = 262144
flow_bytes_low = 65536
unstopped_bytes_max = 64 << 20

# How much a node takes from a node that isn't above it in long messages that it hasn't asked for, unfinished ones together.
untold_bytes_max = 16 << 20

# How long one of these may be, as a log record, or as news of losses. Any other has at most one fragment's size: whoever reads
# the link decodes it, and meanwhile nobody else is served. A MiB of empty lists takes 0.7 s and 75 MB.
news_bytes_max = 1 << 20

# From which size on the body of a frame is read to where it stays, instead of being cut out of what was read: that spares three
# copies, 10 us for 128 KB each, and costs 5 us.
in_place_bytes_min = 32768

# What a socket between two processes of one machine takes before its writer has to wait, as far as the system allows: the 208
# KiB that Linux gives by itself hold one item of 128 KB, so for each one the writer was woken once more.
socket_bytes = 1 << 20

# How long a line may be that stays with the thread that writes it, until it is whole.
line_bytes_max = 65536

# How much of a large byte string's memory is given back at once: 1 ms, in which no other thread runs.
let_go_bytes = 16 << 20

# How long anything waits at once: poll and epoll take 24 days at most. Who waits for longer looks again.
wait_s_max = 86400.0
