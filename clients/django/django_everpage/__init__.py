"""Which pages show this object? They go from the cache when it is saved, deleted or linked anew.

    import django_everpage as everpage

    @everpage.register
    class IceCream(models.Model):
        def dependent_paths(self):
            yield "/ice-cream/"
            yield self.get_absolute_url()

What is collected during a transaction is sent to everpage after its COMMIT, once; a ROLLBACK sends nothing. Settings
stand in `EVERPAGE` (see `django_everpage.conf`).
"""

from django_everpage.invalidation import batch, invalidate, invalidate_objects, invalidating, silent
from django_everpage.site import register, unregister

__all__ = ["batch", "invalidate", "invalidate_objects", "invalidating", "register", "silent", "unregister"]
