"""The stub: the program that a node's interpreter reads from its stdin, and the first bytes that it takes from the link.

The interpreter finds the stub in a pipe that was filled before it started. The link is descriptor 9 (to read) and 1 (to
write). The stub reads exactly ``HEAD_BYTES`` from it and runs them; what these do (``HEAD``) needn't fit on a command line:

1. status 98 for whatever goes wrong from now on, behind Python's own words on stderr;
2. the current directory leaves ``sys.path`` before anything is imported that could lie there;
3. loader and kernel, one zlib stream, are inflated, and the loader is run: what lies behind the last zero byte. Something
   always follows the stream on the link, so its end is seen.

Late part of the kernel: only who grows children needs it. Pure.
"""

HEAD = br"""import sys;h=sys.excepthook;p=sys.path.pop(0)
import os,zlib;d=zlib.decompressobj();s=bytes()
sys.excepthook=lambda*a:h(*a)or sys.stderr.flush()or os._exit(98)
while not d.unused_data:s+=d.decompress(os.read(9,65536)or os._exit(98))
exec(s[s.rfind(b"\0")+1:])
"""
HEAD_BYTES = len(HEAD)

# With single bytes it can't read too much, and a text that arrives in pieces is put together. 260 reads take 0.1 ms.
# ``posix`` is built in, so nothing that lies in the current directory is imported in its place.
PROGRAM = r"from posix import*\nexec(bytes().join(read(9,1)or exit(98)for i in[0]*%d))" % HEAD_BYTES


def program(fd):
    # type: (int) -> bytes
    """The stub for an interpreter whose link is one descriptor, read and written: a socket."""
    return ("import posix\nposix.dup2(%d,9)\nposix.dup2(9,1)\n%s\n" % (fd, PROGRAM.replace(r"\n", "\n"))).encode()
