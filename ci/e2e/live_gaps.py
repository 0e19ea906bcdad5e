"""Asks `/live` again and again until its input ends; prints the longest wait for an answer, in seconds."""

import http.client
import sys
import threading
import time

PAUSE = 0.005


def wait():
    """How long one answer took."""
    begin = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", 9292, timeout=30)
    connection.request("GET", "/live")
    answer = connection.getresponse()
    answer.read()
    connection.close()
    assert answer.status == 200, answer.status
    return time.monotonic() - begin


def main():
    """Asks."""
    longest = wait()
    print("asking", flush=True)
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    while not ended.is_set():
        longest = max(longest, wait())
        time.sleep(PAUSE)
    print(longest)


if __name__ == "__main__":
    main()
