"""Django's settings. What can be set from outside stands in `vmmanager.environment`; nothing else reads the environment."""

from __future__ import annotations

import sys
from typing import Any
from urllib.parse import urlsplit

import dj_database_url
from csp.constants import NONE, SELF
from pydantic import ValidationError

from core.crypto_key import KeyMissing, derive_secret, ensure_key
from vmmanager.environment import BASE_DIR, Environment, Unusable

try:
    ENV = Environment()
except ValidationError as error:
    # Our own sentences name the variable; pydantic's do not.
    sentences = (
        str(item["msg"]).removeprefix("Value error, ")
        if item["type"] == "value_error"
        else f"VMM_{str(item['loc'][0]).upper()}: {item['msg']}"
        for item in error.errors()
    )
    raise Unusable("; ".join(sentences)) from None

TESTING = "pytest" in sys.modules
DATA_DIR = ENV.data_dir.absolute()
KEY_FILE = (ENV.key_file or DATA_DIR / "key").absolute()
try:
    DATA_DIR.mkdir(parents=True, exist_ok=True, mode=0o700)
    ensure_key(KEY_FILE, may_create=not (DATA_DIR / "db.sqlite3").exists() and not ENV.database_url)
    SECRET_KEY = derive_secret(KEY_FILE, "django")
except OSError as error:
    raise Unusable(f"{error.filename}: {error.strerror} (VMM_DATA_DIR={DATA_DIR}, VMM_KEY_FILE={KEY_FILE})") from None
except KeyMissing as error:
    raise Unusable(error.detail) from None
DEBUG = ENV.debug
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ROOT_URLCONF = "vmmanager.urls"
ASGI_APPLICATION = "vmmanager.asgi.application"
AUTH_USER_MODEL = "accounts.User"
APPEND_SLASH = False

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "axes",
    "channels",
    "events",
    "accounts",
    "live",
    "operations",
    "metrics",
    "hosts",
    "transfers",
    "storage",
    "networks",
    "images",
    "vms",
    "consoles",
    "watcher",
    "dashboard",
    "vmmanager",
]

MIDDLEWARE = [
    "core.middleware.RequestIdMiddleware",
    "vmmanager.middleware.ApiEdgeMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "core.middleware.CompressMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "accounts.middleware.PolicyMiddleware",
    "dashboard.context.SeqMiddleware",
    "axes.middleware.AxesMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "OPTIONS": {
            "loaders": [("django.template.loaders.cached.Loader", ["django.template.loaders.filesystem.Loader"])],
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "dashboard.context.shell",
            ],
            "builtins": ["django.templatetags.i18n", "django.templatetags.static", "dashboard.templatetags.ui"],
        },
    }
]

# -- where things are kept -----------------------------------------------------------------------------------------------
EMBEDDED = ENV.embedded
if EMBEDDED:
    DATABASES: dict[str, Any] = {
        "default": {
            "ENGINE": "core.sqlite",  # Django's, with a queue before the write lock
            "NAME": DATA_DIR / "db.sqlite3",
            # Threads of requests are used again (vmmanager.handler), and so are their connections.
            "CONN_MAX_AGE": 600,
            "OPTIONS": {
                # IMMEDIATE: a transaction that reads and then writes takes the write lock at its beginning and waits for it,
                # where a deferred one would fail at once with "database is locked" on the upgrade.
                "transaction_mode": "IMMEDIATE",
                "timeout": 20,
                "init_command": "PRAGMA journal_mode=WAL;PRAGMA synchronous=NORMAL;PRAGMA mmap_size=134217728;"
                "PRAGMA journal_size_limit=27103364;PRAGMA cache_size=-20000;PRAGMA foreign_keys=ON;",
            },
            # A file also in tests: threads of engine and watcher need connections of their own to the same database.
            "TEST": {"NAME": DATA_DIR / "test.sqlite3"},
        }
    }
    CHANNEL_LAYERS: dict[str, Any] = {
        "default": {"BACKEND": "channels.layers.InMemoryChannelLayer", "CONFIG": {"capacity": 10_000}}
    }
    CACHES: dict[str, Any] = {
        "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "OPTIONS": {"MAX_ENTRIES": 10_000}}
    }
else:
    DATABASES = {
        "default": {
            **dj_database_url.parse(ENV.database_url),
            # The pool asks a connection whether it lives before it hands it out: after a restart of the database all are dead,
            # and each would have cost somebody an error.
            "CONN_HEALTH_CHECKS": True,
            # Whoever finds the database away hears so within `timeout`; a try to reconnect backs off for no longer than
            # `reconnect_timeout`, and the next request begins a new one: back 2 s after the database, 10 s were measured without.
            "OPTIONS": {
                "pool": {"min_size": 1, "max_size": ENV.worker_threads + 16, "timeout": 8, "reconnect_timeout": 2}
            },
        }
    }
    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": {"hosts": [ENV.redis_url], "prefix": "vmm"},
        }
    }
    CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": ENV.redis_url,
            "KEY_PREFIX": "vmm",
        }
    }

CELERY_BROKER = ENV.redis_url or "memory://localhost/"  # a host, or kombu warns that none was given

# -- who may come in -----------------------------------------------------------------------------------------------------
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "overview"
LOGOUT_REDIRECT_URL = "login"
AXES_FAILURE_LIMIT = 8
AXES_COOLOFF_TIME = 0.25  # hours
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_RESET_ON_SUCCESS = True
AXES_VERBOSE = False
AXES_DISABLE_ACCESS_LOG = True
AXES_LOCKOUT_CALLABLE = "accounts.views.locked_out"
AXES_CLIENT_IP_CALLABLE = "accounts.addresses.axes_address"
# A try while locked out is answered and not counted: the end that `Retry-After` names stays where it is.
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
BEHIND_PROXY = bool(ENV.public_url)  # only then is X-Forwarded-For looked at (accounts.addresses)

_public = urlsplit(ENV.public_url)
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]
if ENV.public_url:
    ALLOWED_HOSTS.append(_public.hostname or "")
elif not ENV.loopback:
    ALLOWED_HOSTS = ["*"]  # we end TLS ourselves, under whatever name the certificate has; Origin is compared with Host
if TESTING:
    ALLOWED_HOSTS.append("testserver")
CSRF_TRUSTED_ORIGINS = [ENV.public_url] if ENV.public_url else []
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if ENV.public_url else None
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = ENV.secure
SESSION_COOKIE_NAME = "vmm_session"
CSRF_COOKIE_NAME = "vmm_csrf"
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_AGE = 14 * 86400
SECURE_HSTS_SECONDS = 31_536_000 if ENV.secure else 0
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
X_FRAME_OPTIONS = "SAMEORIGIN"
DATA_UPLOAD_MAX_MEMORY_SIZE = 2 * 1024 * 1024
CSRF_FAILURE_VIEW = "accounts.views.csrf_failure"

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF],
        "font-src": [SELF],
        "connect-src": [SELF],
        "frame-src": [SELF],
        "frame-ancestors": [SELF],
        "base-uri": [NONE],
        "form-action": [SELF],
        "manifest-src": [SELF],
    }
}

# -- words, times, files ---------------------------------------------------------------------------------------------------
LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English")]
LOCALE_PATHS = [BASE_DIR / "locale"]
USE_I18N = True
USE_TZ = True
TIME_ZONE = "UTC"
STATIC_URL = "/static/"
STATIC_ROOT = DATA_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if TESTING or DEBUG
        else "core.staticfiles.HashedStorage"
    },
}
WHITENOISE_USE_FINDERS = TESTING or DEBUG
WHITENOISE_AUTOREFRESH = TESTING or DEBUG

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"request_id": {"()": "core.logs.RequestIdFilter"}},
    "formatters": {"line": {"()": "core.logs.LineFormatter"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["request_id"]}},
    "root": {"handlers": ["stderr"], "level": ENV.log_level},
    "loggers": {
        "axes": {"level": "WARNING"},
        "celery": {"level": "WARNING"},
        "django.request": {"level": "ERROR"},
        "httpx": {"level": "WARNING"},  # else it writes down every URL whole
        "uvicorn.access": {"level": "WARNING"},
        "uvicorn.error": {"level": "WARNING"},
    },
}
