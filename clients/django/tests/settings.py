"""The project of the tests.

DJ_DATABASE is sqlite or postgresql, DJ_FOLDER a folder for files, DJ_PGHOST the one of the server's socket.
"""

import os
from pathlib import Path

FOLDER = Path(os.environ.get("DJ_FOLDER", "."))


def _database(name: str) -> dict:
    if os.environ.get("DJ_DATABASE") == "postgresql":
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": os.environ.get(f"DJ_NAME_{name}", name),
            "HOST": os.environ["DJ_PGHOST"],
            "USER": "everpage",
        }
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get(f"DJ_NAME_{name}", FOLDER / f"{name}.sqlite3"),
        "OPTIONS": {"timeout": 30},
        "TEST": {"NAME": FOLDER / f"test_{name}.sqlite3"},
    }


SECRET_KEY = "of the tests"
DEBUG = False
USE_TZ = True
ALLOWED_HOSTS = ["*"]
DATABASES = {"default": _database("default"), "second": _database("second")}
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django_everpage",
    "shop",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
# Tables are made from the models, those of the package by its migrations.
MIGRATION_MODULES = dict.fromkeys(["admin", "auth", "contenttypes", "sessions"])
STATIC_URL = "/static/"
ROOT_URLCONF = "shop.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
# A port on which nobody listens: a test that sends without saying where shows at once.
EVERPAGE = {"URL": "http://127.0.0.1:9", "OUTBOX": os.environ.get("DJ_OUTBOX") == "1"}
if "DJ_URL" in os.environ:
    EVERPAGE |= {
        "URL": os.environ["DJ_URL"],
        "TOKEN": os.environ.get("DJ_TOKEN"),
        "SENDER": os.environ.get("DJ_SENDER"),
    }
LOGGING = {"version": 1, "disable_existing_loggers": False, "loggers": {"everpage": {"level": "CRITICAL"}}}
