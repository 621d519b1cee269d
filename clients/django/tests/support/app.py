"""Run as a process: saves an object in a project with an outbox, and dies as it is told.

python -m support.app PATH_PART_OLD PATH_PART_NEW [atomic | held]

held: the transaction says "saved" and commits when a line comes in
"""

import os
import signal
import sys


def die(_body):
    """The SENDER: called right after COMMIT, before anything was sent."""
    os.kill(os.getpid(), signal.SIGKILL)


def main():
    import django

    django.setup()
    from django.db import transaction

    from shop.models import Simple

    simple = Simple.objects.get(slug=sys.argv[1])
    simple.slug = sys.argv[2]
    if sys.argv[3:]:
        with transaction.atomic():
            simple.save()
            if sys.argv[3] == "held":
                sys.stdout.write("saved\n")
                sys.stdout.flush()
                sys.stdin.readline()
    else:
        simple.save()


if __name__ == "__main__":
    main()
