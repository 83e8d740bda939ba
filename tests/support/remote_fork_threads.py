"""A module that starts a thread when it is imported: no template for clean forks."""
import threading
import time

THREAD = threading.Thread(target=time.sleep, args=(1000,))
THREAD.daemon = True
THREAD.start()
