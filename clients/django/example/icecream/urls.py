from django.urls import path

from . import views

urlpatterns = [
    path("", views.menu, name="menu"),
    path("ice-cream/<slug:slug>/", views.ice_cream, name="ice-cream"),
    path("sizes/<slug:slug>/", views.size, name="size"),
    path("about/", views.about, name="about"),
    path("suggest/", views.suggest, name="suggest"),
]
