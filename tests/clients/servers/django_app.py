"""Django, for gunicorn."""

import sample
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse, HttpResponseRedirect, StreamingHttpResponse
from django.urls import path

settings.configure(
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="for tests",
    DATA_UPLOAD_MAX_MEMORY_SIZE=1 << 26,
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
)


def text(request):
    status, fields, content = sample.text(request.headers.get("If-None-Match"), request.headers.get("Range"))
    return HttpResponse(content, status=status, headers=fields, content_type="text/plain")


def compressed(_):
    return HttpResponse(sample.COMPRESSED, headers=sample.GZIP_FIELDS)


def chunked(_):
    return StreamingHttpResponse(iter(sample.CHUNKS), content_type="text/plain")


def redirect(_):
    return HttpResponseRedirect("/text")


def set_cookies(_):
    answer = HttpResponse("set")
    answer.set_cookie("a", "1")
    answer.set_cookie("b", "2")
    return answer


def cookies(request):
    return HttpResponse(request.headers.get("Cookie", ""))


def events(_):
    return StreamingHttpResponse(iter(sample.EVENTS), content_type="text/event-stream")


def slow(_):
    return HttpResponse(sample.wait_for_release())


def echo(request):
    # Django takes content without a length for empty; gunicorn does not.
    return HttpResponse(sample.echo(request.environ["wsgi.input"].read()))


def refused(request):
    if int(request.headers.get("Content-Length", 0)) > sample.LIMIT:
        return HttpResponse("too large", status=413)
    return echo(request)


urlpatterns = [
    path("text", text),
    path("gzip", compressed),
    path("chunked", chunked),
    path("redirect", redirect),
    path("set-cookies", set_cookies),
    path("cookies", cookies),
    path("events", events),
    path("slow", slow),
    path("echo", echo),
    path("refused", refused),
]
app = get_wsgi_application()
