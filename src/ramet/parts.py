"""Which late parts of the kernel go together, and what needs which. Tables only: who sends them is ``shipping``.

What a part imports stands before it (``tests/unit/test_parts.py``): a thread that imports one as soon as it is there need ask
for nothing, while the one that would have to read the answer may wait for that import.
"""

from __future__ import annotations

import pkgutil

from ramet import kernel
from ramet.bootstrap import packing

# What most parts import.
MOST = ("errors",)
# What long messages and credit need; and what of the kernel an import needs that nobody foresaw: on 2.7, where ours are asked
# first, each import does.
LONG = ("limits_late", "compat_late", "credit", "fragments", "inlets", "longs")
UNFORESEEN = (*LONG, "installed", "unforeseen")
# What a node needs to grow children. The reader of its link imports it, which can't ask for anything: all must be there.
GROWING = (*UNFORESEEN, "facade", "failures", "descent", "text27", "stub", "hidden", "dialogue", "diagnosis", "settling",
           "spawn", "questions", "grow", "handles", "refusing", "main_thread", "relaying", "nursery")  # fmt: skip
# What ends calls; and what runs them in other lanes than the main one. Nothing may be asked for: 2.7 has one lock for imports.
CANCELLING = (*UNFORESEEN, "failures", "handles", "swallowed", "offspring", "raising", "jobs", "awaiting", "circles",
              "cancelling")  # fmt: skip
LANES = (*CANCELLING, "lines", "main_thread", "lanes", "tasks")
# What forks nodes from one that has modules loaded.
TEMPLATE = (*GROWING, *CANCELLING, "loop_late", "ending", "spinning", "later", "logs", "portable", "instances", "forked",
            "spare", "template")  # fmt: skip
# What sends the items of streams, and what their receiver needs of long messages.
STREAMS = (*UNFORESEEN, *CANCELLING, "streams", "feeds", "producing", "producing_async", "readers")
# What looks after neighbours.
KEEPING = ("handles", "keepalive")
# What serves objects to other nodes; and what asks services, from a node.
SERVICES = (*STREAMS, *LANES, "descent", "proxies", "served", "requests", "askers", "services")
ASKING = (*LANES, "descent", "remote_errors", "proxies", "peer_calls", "peers")
# What the reader of its link needs when it is told what of its output was shown.
SHOWN = (*LONG, "shown")
# What runs programs.
RUNNING = (*STREAMS, "ending", "running")
# What sends into channels, receives from them and holds them.
CHANNELS = ("facade", *STREAMS, "descent", "portable", "holding", "ends", "channels")
# What is asked for data and metadata of packages.
METADATA = (*UNFORESEEN, "packages", "resources", "distributions")
RESOURCES = METADATA[:-1]
WHOLE = {"importlib.metadata": METADATA, "importlib_metadata": METADATA, "importlib.resources": RESOURCES,
         "importlib_resources": RESOURCES, "pkgutil": (*UNFORESEEN, "packages")}  # fmt: skip
# What loads native modules.
NATIVE_CODE = (*UNFORESEEN, "native")
# What reads values of the rarer types.
RARE = ("portable", "instances")
# What makes functions and classes of what came by value.
BY_VALUE = (*RARE, "limits_late", "compat_late", "by_value", "classes")
# What follows behind the first call, without a request; and what is sent before it if its module imports one of these.
FOLLOWING = (*MOST, *UNFORESEEN, "facade", "loop_late", "ending", "main_thread", "spinning", "later", "logs", "failures")
# What a node needs to outlive its program; its parent, to come back to it; a door. What the user's methods call of the kernel.
HOLDING = (*FOLLOWING, *CANCELLING, *BY_VALUE, "meeting", "leash", "parting", "held")
COMING_BACK = ("meeting", "coming_back")
OWN = {"services": SERVICES, "running": RUNNING, "template": TEMPLATE, "held": HOLDING,
       "doors": (*FOLLOWING, *CHANNELS, "text27", "proxies", "meeting", "results", "references", "passages", "stand_ins",
                 "rooms", "doors")}
# What comes along with a part that is asked for: what it imports, and what is seldom used without it.
TOGETHER = {**OWN, "packages": RESOURCES, "resources": RESOURCES, "distributions": METADATA, "unforeseen": UNFORESEEN,
            "cancelling": CANCELLING, "lanes": LANES, "peers": ASKING, "results": (*STREAMS, "results"), "channels": CHANNELS}
NEEDED_FOR = {"ramet": "facade", "logging": "logs"}
KERNEL = "ramet.kernel."
# All of the kernel that isn't in its core: it may be asked for.
LATE = {KERNEL + module.name for module in pkgutil.iter_modules(kernel.__path__)} - set(packing.CORE)
