from django.contrib import admin
from django.urls import path

from shop import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("save/", views.save),
    path("asave/", views.asave),
    path("icecream/", views.ice_creams, name="ice-creams"),
    path("<str:model>/<str:slug>/", views.page),
]
