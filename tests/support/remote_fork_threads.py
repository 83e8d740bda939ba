"""A module that starts a thread when it is imported: no template for clean forks."""
import sys
import threading
import time

sys.modules["ramet.kernel.template"].alone_within_s = 0.5       # they don't end by themselves

THREAD = threading.Thread(target=time.sleep, args=(1000,))
THREAD.daemon = True
THREAD.start()
