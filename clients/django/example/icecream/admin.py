from django.contrib import admin

import django_everpage as everpage
from django_everpage.admin import EverpageAdminMixin

from .models import IceCream, Size, Suggestion


@admin.register(Size)
class SizeAdmin(EverpageAdminMixin, admin.ModelAdmin):
    list_display = ["name", "scoops", "surcharge"]
    prepopulated_fields = {"slug": ["name"]}


@admin.register(IceCream)
class IceCreamAdmin(EverpageAdminMixin, admin.ModelAdmin):
    list_display = ["name", "price", "sold_out"]
    list_editable = ["price"]
    list_filter = ["sold_out", "sizes"]
    search_fields = ["name", "description"]
    prepopulated_fields = {"slug": ["name"]}
    filter_horizontal = ["sizes"]
    actions = ["sell_out", "bring_back"]

    @admin.action(description="Sold out today")
    def sell_out(self, request, queryset):
        self._set_sold_out(request, queryset, True)

    @admin.action(description="Back on the menu")
    def bring_back(self, request, queryset):
        self._set_sold_out(request, queryset, False)

    def _set_sold_out(self, request, queryset, sold_out):
        # One UPDATE for all calls no save hook: say which objects change. The list may be filtered by what changes.
        with everpage.invalidating(queryset) as flavors:
            count = flavors.update(sold_out=sold_out)
        self.message_user(request, f"{count} changed.")


@admin.register(Suggestion)
class SuggestionAdmin(admin.ModelAdmin):
    list_display = ["flavor", "made_at"]
