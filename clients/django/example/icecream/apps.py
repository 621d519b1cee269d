from django.apps import AppConfig


class IceCreamConfig(AppConfig):
    name = "icecream"
    verbose_name = "Ice cream"
