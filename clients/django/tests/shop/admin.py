from django.contrib import admin

from django_everpage.admin import EverpageAdminMixin
from shop.models import IceCream, Plain


@admin.register(IceCream)
class IceCreamAdmin(EverpageAdminMixin, admin.ModelAdmin):
    pass


admin.site.register(Plain)
