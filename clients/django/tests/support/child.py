"""Run as a process: its child, of multiprocessing, leaves while something waits to be sent to DJ_URL."""

import multiprocessing
import threading


def leave():
    from django_everpage import retry

    retry.queue.thread = threading.current_thread()  # none that would be faster
    retry.queue.add([{"paths": ["/child/"], "id": "of-the-child"}])


def main():
    import django

    django.setup()
    child = multiprocessing.get_context("fork").Process(target=leave)
    child.start()
    child.join()


if __name__ == "__main__":
    main()
