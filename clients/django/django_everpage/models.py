"""The outbox: what is still to be sent, written in the transaction that made it necessary."""

from __future__ import annotations

import uuid

from django.db import models
from django.utils import timezone


class OutboxEntry(models.Model):
    """An invalidation that the proxy has not confirmed yet. Order does not matter: invalidations only add up."""

    # Random, so that it names the same invalidation to a proxy that several databases share.
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    created_at = models.DateTimeField(default=timezone.now, db_index=True)
    # {"paths": [...], "prefixes": [...], "tags": [...], "all": true, "reason": "...", "touched": [[...], ...]}
    body = models.JSONField()

    class Meta:
        verbose_name = "invalidation to be sent"
        verbose_name_plural = "invalidations to be sent"

    def __str__(self) -> str:
        return f"{self.pk}: {self.body}"
