"""The SENDER of the README, with the real Celery: its broker in memory, its worker in a thread."""

import re
import sys
import types
from pathlib import Path

import celery
from celery import signals
from celery.contrib.testing.worker import start_worker
from django.test import override_settings

import django_everpage
from django_everpage import retry
from shop.models import Simple
from support.proxy import TOKEN, ProxyTestCase

README = Path(__file__).resolve().parents[2] / "README.md"
TOO_LONG = "x" * 5000  # for a tag


def leave_logging_alone(**_):
    """Celery would print what other tests expect in silence."""


class Celery(ProxyTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        signals.setup_logging.connect(leave_logging_alone)
        app = celery.Celery("shop", broker="memory://", set_as_current=True)
        app.conf.update(worker_hijack_root_logger=False, broker_connection_retry_on_startup=True)
        (snippet,) = (code for code in re.findall(r"```python\n(.*?)```", README.read_text(), re.S) if "celery" in code)
        setting, name = re.search(r'EVERPAGE = \{"SENDER": "(([\w.]+)\.\w+)"\}', snippet).groups()
        module = types.ModuleType(name)
        for part in (name.partition(".")[0], name):
            if part not in sys.modules:
                sys.modules[part] = module
                cls.addClassCleanup(sys.modules.pop, part)
        exec(snippet, vars(module))
        cls.task = module.tell_everpage
        worker = start_worker(app, pool="solo", perform_ping_check=False, loglevel="CRITICAL")
        cls.enterClassContext(worker) if hasattr(cls, "enterClassContext") else cls.enter(worker)
        settings = override_settings(EVERPAGE={"URL": cls.proxy.url, "TOKEN": TOKEN, "SENDER": setting})
        settings.enable()
        cls.addClassCleanup(settings.disable)

    @classmethod
    def enter(cls, context):  # Python 3.10
        context.__enter__()
        cls.addClassCleanup(context.__exit__, None, None, None)

    def setUp(self):
        retry.queue.reset()
        self.retries, self.ended = [], []
        signals.task_retry.connect(self.note_retry)
        signals.task_success.connect(self.note_end)
        self.addCleanup(signals.task_retry.disconnect, self.note_retry)
        self.addCleanup(signals.task_success.disconnect, self.note_end)

    def note_retry(self, reason, **_):
        self.retries.append(reason)

    def note_end(self, sender, **_):
        self.ended.append(sender)

    def test_a_saved_page_is_new_when_the_task_has_run(self):
        simple = Simple.objects.create(text="old")
        old = self.visit("/simple/slug/")
        simple.text = "new"
        simple.save()
        self.wait_for(lambda: len(self.ended) == 2, "both tasks ended")
        self.assert_new("/simple/slug/", old)
        self.assertEqual(self.retries, [])

    def test_what_is_rejected_is_not_tried_for_ever_and_takes_nothing_with_it(self):
        Simple.objects.create()
        self.wait_for(lambda: self.ended, "the task ended")
        self.visit("/simple/slug/")
        with self.assertLogs("everpage", "ERROR") as logs:
            django_everpage.invalidate(["/simple/slug/"], tags=[TOO_LONG])
            self.wait_for(lambda: len(self.ended) == 2, "the task ended")
        self.assertEqual(len(logs.output), 1)
        self.assertFalse(self.proxy.get("/simple/slug/").is_hit)
        self.assertEqual(self.retries, [])

    def test_a_proxy_that_is_away_is_told_when_it_is_back(self):
        Simple.objects.create()
        self.wait_for(lambda: self.ended, "the task ended")
        self.store("/simple/slug/")
        self.proxy.kill()
        Simple.objects.get().save()
        self.wait_for(lambda: self.retries, "the first try failed")
        self.assertEqual(len(retry.queue), 0)
        self.proxy.start()
        self.wait_for(lambda: len(self.ended) == 2, "the task ended")
        self.assertFalse(self.proxy.get("/simple/slug/").is_hit)
