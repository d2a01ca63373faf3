"""Courses in one file: models, views and settings. Responses name their tags, and a saved model purges on commit."""

import json
import os
import sys
import urllib.request

import django
from django.conf import settings
from django.core.management import execute_from_command_line

ADMIN = os.environ.get("LARDER_ADMIN_URL", "http://127.0.0.1:9090")
settings.configure(
    DEBUG=True,
    SECRET_KEY="example",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ.get("DATABASE", "courses.sqlite")}},
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
)
django.setup()

from django.db import connection, models, transaction  # noqa: E402
from django.db.models.signals import post_delete, post_save  # noqa: E402
from django.http import JsonResponse  # noqa: E402
from django.shortcuts import get_object_or_404  # noqa: E402
from django.urls import path  # noqa: E402


class Course(models.Model):
    title = models.TextField()

    class Meta:
        app_label = "courses"

    def content(self):
        return {"id": self.id, "title": self.title}

    def tag(self):
        return f"course:{self.id}"


def purge(*tags):
    content = json.dumps({"tags": tags}).encode()
    urllib.request.urlopen(urllib.request.Request(ADMIN + "/purge", content), timeout=5).close()


def purge_after_commit(sender, instance, **kwargs):
    """After `save` and `delete` by a view, the admin site, a command or a task. A purge that fails is logged."""
    tags = ["courses", instance.tag()]
    transaction.on_commit(lambda: purge(*tags), robust=True)


post_save.connect(purge_after_commit, Course)
post_delete.connect(purge_after_commit, Course)


def listed(request):
    courses = list(Course.objects.all())
    tags = " ".join(["courses", *(course.tag() for course in courses)])
    return JsonResponse([course.content() for course in courses], safe=False, headers={"Surrogate-Key": tags})


def one(request, course):
    found = get_object_or_404(Course, id=course)
    if request.method == "PATCH":
        found.title = json.loads(request.body)["title"]
        with transaction.atomic():
            found.save()
    return JsonResponse(found.content(), headers={"Surrogate-Key": found.tag()})


urlpatterns = [path("courses", listed), path("courses/<int:course>", one)]

if Course._meta.db_table not in connection.introspection.table_names():
    with connection.schema_editor() as editor:
        editor.create_model(Course)
    Course.objects.bulk_create([Course(id=7, title="Knots")])

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
