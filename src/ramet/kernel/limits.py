"""Every bound of the kernel, with its unit in its name, and why it has that value.

Both sides of a link must agree on those that are marked (wire). The others are each side's own.
"""

# (wire) The largest payload of one frame: 128 KiB and what stands around so much. A call never waits behind another flow for
# longer than one frame takes: 1 ms at 1 Gbit/s. Below 64 KiB the cost of a frame in Python, 15 us, shows in the throughput.
frame_bytes_max = 132096

# (wire) The same of a fragment of a long message: where a link is so fast that this takes less than ``fragment_s``.
fragment_bytes_max = 262144

# What is longer is a long message, under credit (``credit``), to and from nodes that have the late parts for that. Credit costs
# 30 us, so calls with less do without.
plain_bytes_max = 8192

# The largest message: what a receiver is ready to hold in memory for one.
message_bytes_max = 1 << 30

# Messages of one sender that may be incomplete at one receiver at a time: one a flow. Bounds what a hostile peer pins.
partial_messages_max = 64

# How much is handed to the operating system at once while other flows wait: what lies in a pipe can't be overtaken.
write_bytes_max = 262144

# How much is gathered for one write when more is known to follow: a hundred small messages, 5 us instead of 500.
batch_bytes = 8192

# How much may wait for a link before a node that passes something on looks whose it is: see ``longs.Long.crowded``.
passing_bytes_max = 262144

# How deep values may be nested. CPython's own limit for recursion is 1,000 frames, of which a value may need two a level.
value_depth_max = 200

# Text of a reason that travels with a lost message.
reason_chars_max = 8192

# What is kept of what a child says on stderr, or before its first marker, for diagnosis.
tail_bytes_max = 16384

# What may come before the first marker: login banners. More than this isn't a banner.
banner_bytes_max = 16 << 20

# (wire) How much of a node's output may be sent and not shown by the controller, before those who write it have to wait. As
# much of its log records.
output_bytes_max = 1 << 18

# How long the guardian waits between a lost link and SIGKILL to the node's process group.
guardian_grace_s = 1.0

# How long a node may take to shut down before its link is closed for it.
close_grace_s = 2.0

# (wire) Handles below this are well known, replies come at or above it.
first_free_handle = 1000
