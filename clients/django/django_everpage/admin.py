"""For Django's admin: an action "Clear from cache", and a panel with the pages that show an object.

    class IceCreamAdmin(EverpageAdminMixin, admin.ModelAdmin): ...

The panel works when the proxy is down: it then says so instead of what is stored.
"""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from django_everpage import client, conf, dependents, hooks
from django_everpage.client import EverpageError
from django_everpage.selection import Selection

# Paths that the panel shows and asks for; an object may name thousands.
PATHS_SHOWN = 200


class EverpageAdminMixin:
    """Stands before `ModelAdmin` in the bases; for a model that is registered with everpage."""

    actions: Any
    change_form_template: Any = "everpage/change_form.html"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Beside the project's own, which may replace the class attribute; None means that actions are switched off.
        if self.actions is not None and "clear_from_cache" not in self.actions:
            self.actions = [*self.actions, "clear_from_cache"]

    @admin.action(description="Clear from cache", permissions=["change"])
    def clear_from_cache(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        selection = Selection()
        for instance in queryset.iterator(chunk_size=500):
            selection.merge(hooks.selection_of(instance, queryset.db))
        self._clear(request, selection)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.everpage_view)  # type: ignore[attr-defined]
        return [path("<path:object_id>/everpage/", view, name=self._url_name()), *super().get_urls()]  # type: ignore[misc]

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        instance = kwargs.get("obj")
        if instance is not None and instance.pk is not None:
            context["everpage_url"] = self._url(instance)
        return super().render_change_form(request, context, *args, **kwargs)  # type: ignore[misc]

    def everpage_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The panel; a POST clears."""
        instance = self.get_object(request, unquote(object_id))  # type: ignore[attr-defined]
        if instance is None:
            gone: HttpResponse = self._get_obj_does_not_exist_redirect(request, self.opts, object_id)  # type: ignore[attr-defined]
            return gone
        if not self.has_view_or_change_permission(request, instance):  # type: ignore[attr-defined]
            raise PermissionDenied
        if request.method == "POST":
            if not self._may_clear(request, instance):
                raise PermissionDenied
            self._clear(request, hooks.selection_of(instance, instance._state.db or "default"))
            return HttpResponseRedirect(self._url(instance))
        context = {
            **self.admin_site.each_context(request),  # type: ignore[attr-defined]
            **_panel(instance),
            "title": "Pages in the cache",
            "subtitle": str(instance),
            "object": instance,
            "opts": self.opts,  # type: ignore[attr-defined]
            "may_clear": self._may_clear(request, instance),
        }
        return TemplateResponse(request, "everpage/panel.html", context)

    def _clear(self, request: HttpRequest, selection: Selection) -> None:
        if not selection:
            messages.info(request, "No page depends on that.")
            return
        selection.because(f"cleared in the admin by {request.user.pk}")
        try:
            for body in selection.bodies():
                client.post(body)
        except EverpageError as error:
            messages.error(request, f"The cache could not be cleared: {error}")
        else:
            what = "Everything" if selection.all else f"{len(selection)} paths and tags"
            messages.success(request, f"Cleared from the cache: {what}.")

    def _may_clear(self, request: HttpRequest, instance: Model | None = None) -> bool:
        return bool(self.has_change_permission(request, instance))  # type: ignore[attr-defined]

    def _url(self, instance: Model) -> str:
        site = self.admin_site.name  # type: ignore[attr-defined]
        return reverse(f"admin:{self._url_name()}", args=(quote(instance.pk),), current_app=site)

    def _url_name(self) -> str:
        opts = self.opts  # type: ignore[attr-defined]
        return f"{opts.app_label}_{opts.model_name}_everpage"


def _panel(instance: Model) -> dict[str, Any]:
    """What the object names, and what is stored of it as far as the proxy can say."""
    try:
        selection = hooks.selection_of(instance, instance._state.db or "default")
    except (dependents.DependentsError, TypeError) as error:
        return {"problem": str(error)}
    shown = list(selection.paths)[:PATHS_SHOWN]
    context = {"tags": list(selection.tags), "more": len(selection.paths) - len(shown), "everything": selection.all}
    if not shown:
        return {**context, "pages": []}
    if not conf.get().enabled:
        return {**context, "pages": [(path, None) for path in shown], "problem": "everpage is switched off"}
    try:
        missing = set(client.post({"paths": shown, "dry_run": True}).get("unmatched") or ())
    except EverpageError as error:
        return {**context, "pages": [(path, None) for path in shown], "problem": f"Cannot say what is stored: {error}"}
    return {**context, "pages": [(path, path not in missing) for path in shown]}
